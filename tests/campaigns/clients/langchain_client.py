"""langchain-openai against a server: argv has its address. Prints what was exercised."""

import sys

import openai
from langchain_core.messages import AIMessage, HumanMessage
from langchain_openai import ChatOpenAI, OpenAI

address = sys.argv[1]
chat = ChatOpenAI(base_url=address, api_key="none", model="chatml", temperature=0, max_tokens=8, max_retries=0)
whole = chat.invoke("Say red.")
assert isinstance(whole, AIMessage)
assert whole.usage_metadata["output_tokens"] <= 8
print("chat:", repr(whole.content), whole.response_metadata["finish_reason"])
text = "".join(chunk.content for chunk in chat.stream("Say red."))
assert text == whole.content
print("stream: the same text")
turns = [HumanMessage("Say red."), whole, HumanMessage("Say big.")]
print("turns:", repr(chat.invoke(turns).content))
two = ChatOpenAI(base_url=address, api_key="none", model="chatml", n=2, logprobs=True, max_tokens=8, max_retries=0)
several = two.generate([[HumanMessage("Say red.")]])
assert len(several.generations[0]) == 2
print("n and logprobs: 2 choices")
completion = OpenAI(base_url=address, api_key="none", model="chatml", temperature=0, max_tokens=4, max_retries=0)
print("completion:", repr(completion.invoke("Old")), [len(found) for found in completion.batch(["a", "b"])])
try:
    chat.bind_tools([{"type": "function", "function": {"name": "f", "parameters": {}}}]).invoke("Say red.")
    raise SystemExit("tools were ignored")
except openai.BadRequestError as error:
    print("refused by name:", error.param)
