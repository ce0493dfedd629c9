"""Reading rows from JSON, JSON Lines and Parquet files and from datasets of the Hugging Face hub."""
