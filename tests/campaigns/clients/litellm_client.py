"""litellm against a server: argv has its address. Prints what was exercised."""

import asyncio
import sys

import litellm

options = {"api_base": sys.argv[1], "api_key": "none", "num_retries": 0, "max_retries": 0}
messages = [{"role": "user", "content": "Say red."}]
chat = {"model": "openai/chatml", "messages": messages, "temperature": 0, "max_tokens": 8, **options}
whole = litellm.completion(**chat)
print("chat:", repr(whole.choices[0].message.content), whole.usage.completion_tokens)
text = "".join(chunk.choices[0].delta.content or "" for chunk in litellm.completion(**chat, stream=True))
assert text == whole.choices[0].message.content
print("stream: the same text")
again = asyncio.run(litellm.acompletion(**chat))
assert again.choices[0].message.content == text
print("asynchronous: the same text")
echoed = litellm.text_completion(
    model="text-completion-openai/chatml", prompt="Old and big", echo=True, logprobs=1, max_tokens=2, **options
)
assert echoed.choices[0].text.startswith("Old and big")
print("text_completion with echo and logprobs:", repr(echoed.choices[0].text))
for wrong, kind in (
    ({"messages": [{"role": "user", "content": "word " * 500}]}, litellm.ContextWindowExceededError),
    ({"logit_bias": {"999999": 1}}, litellm.BadRequestError),
    ({"model": "openai/none"}, litellm.NotFoundError),
):
    try:
        litellm.completion(**{**chat, **wrong})
    except kind as error:
        print("error:", type(error).__name__)
    else:
        raise SystemExit(f"{wrong} was not refused")
