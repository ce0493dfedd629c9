"""Publishing an export on the Hugging Face Hub: what must not leave this machine, the upload, and its verification."""
