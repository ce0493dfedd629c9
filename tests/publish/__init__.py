"""Tests of publishing on the Hugging Face Hub."""
