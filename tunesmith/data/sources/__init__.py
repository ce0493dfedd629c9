"""Reading rows from files (JSON, tables, Parquet, Arrow, texts), directories and datasets of the Hugging Face hub."""
