"""Speed and memory beside other tools: every claim is one command that runs both on the same data and model."""
