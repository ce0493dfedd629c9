"""One thread for each model, which generates the replies of all requests together and streams them to asyncio."""
