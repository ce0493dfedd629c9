"""The sections of a card about the model and how it is used: pure functions of the facts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from tunesmith.publish.card.document import CardSection
from tunesmith.publish.card.facts import CardFacts, CardModel, PromptFacts
from tunesmith.publish.card.markdown import author_text, bullets, code, code_block, paragraphs, plain
from tunesmith.publish.card.results import describe_parameters
from tunesmith.publish.card.words import LANGUAGES, METHODS, count, languages_of, sources_line

MARK_REPLACEMENTS = ((" _LB_> ", "\n"), (" _T_> ", "\t"), ("_LB_>", "\n"), ("_T_>", "\t"))
"""What other programs replace in the replies of the format t5-dolly, as its original does."""
RECIPE, MANIFEST, METRICS, CONFIG = "recipe.yaml", "manifest.json", "metrics.jsonl", "config.json"


def summary(facts: CardFacts) -> CardSection:
    """The title, what the model is, and the author's sentences."""
    title = f"# {plain(facts.card.title or facts.name)}"
    own = "" if facts.card.summary is None else author_text(facts.card.summary)
    sentence = f"{_what(facts.model)}, {_origin(facts.model)} by {METHODS[facts.training.method]}{_on_what(facts)}."
    sources = sources_line(facts, RECIPE, MANIFEST, METRICS)
    return CardSection("summary", "", paragraphs(title, sentence, own, sources))


def _what(model: CardModel) -> str:
    kind = "an encoder-decoder" if model.is_encoder_decoder else "a causal"
    shape = f"{kind} language model" if model.kind == "assistant" else f"a reward model, made of {kind} language model"
    return f"This is {shape} of {_size(model.parameters)} parameters"


def _origin(model: CardModel) -> str:
    if model.base is None:
        return "trained from random weights"
    return f"trained from {_base(model)}"


def _base(model: CardModel) -> str:
    assert model.base is not None, "there is a base model"
    name = code(model.base)
    return f"[{name}](https://huggingface.co/{model.base})" if model.base_on_hub else name


def _on_what(facts: CardFacts) -> str:
    records = facts.data.train.get("records", 0)
    names = [code(source.name) for source in facts.data.sources]
    shown = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f" on {count(records, 'record')} of {shown} ({facts.training.steps:,} optimizer steps)"


def _size(parameters: int) -> str:
    """6,857,302,016 -> ``6.9 billion``."""
    for unit, name in ((10**9, "billion"), (10**6, "million")):
        if parameters >= unit:
            return f"{parameters / unit:.3g} {name}"
    return f"{parameters:,}"


def model_details(facts: CardFacts) -> CardSection:
    """A list of what the model is and who made it."""
    card, model = facts.card, facts.model
    license = card.license if card.license != "other" else card.license_name
    found = languages_of(facts.data.survey)
    items = [
        ("Developed by", "" if card.developer is None else plain(card.developer)),
        ("Model type", f"{code(model.architecture)}, {model.parameters:,} parameters in {code(model.dtype)}"),
        ("Language", ", ".join(f"{LANGUAGES.get(name, name)} ({code(name)})" for name in found)),
        ("Trained from", "random weights" if model.base is None else _base_with_commit(facts)),
        ("Adapters", _adapters(model)),
        ("Prompt format", code(facts.recipe.text.format)),
        ("Context", "" if model.context is None else f"{model.context:,} tokens"),
        ("Trained on", f"threads of at most {facts.recipe.text.max_length:,} tokens"),
        ("License", "" if license is None else _license(facts, license)),
        *((plain(name), _link(place)) for name, place in card.links.items()),
        ("Contact", "" if card.contact is None else plain(card.contact)),
    ]
    return CardSection(
        "model-details", "Model details", paragraphs(bullets(items), sources_line(facts, RECIPE, MANIFEST, CONFIG))
    )


def _adapters(model: CardModel) -> str:
    if model.is_adapter:
        return "these are low-rank adapters, without the weights of the base model"
    return "low-rank adapters were trained and merged" if model.adapter else ""


def _base_with_commit(facts: CardFacts) -> str:
    model = facts.model
    commit = f", commit {code(model.base_commit)}" if model.base_commit else ""
    return f"{_base(model)}{commit}" + (f", license {code(model.base_license)}" if model.base_license else "")


def _license(facts: CardFacts, name: str) -> str:
    link = "" if facts.card.license_link is None else f", {_link(facts.card.license_link)}"
    reason = "" if facts.card.license_reason is None else f" ({plain(facts.card.license_reason)})"
    return f"{code(name)}{link}{reason}"


def _link(place: str) -> str:
    """A link for an address of the web, otherwise text."""
    is_address = place.startswith(("https://", "http://")) and not set(place) & set(" \t\n<>\"'`\\()[]|{}")
    return f"<{place}>" if is_address and place.isprintable() else plain(place)


def prompting(facts: CardFacts) -> CardSection:
    """The format, an exact example, and a reply of the model. The text for a reward model says what it scores."""
    if facts.prompt is None:
        text = (
            f"This model scores a reply to a conversation in the prompt format {code(facts.recipe.text.format)}: the "
            "score is read at the end of the reply, and higher is better. It writes no replies."
        )
        return CardSection("prompting", "Scoring", paragraphs(text, sources_line(facts, RECIPE)))
    prompt = facts.prompt
    return CardSection("prompting", "Prompting", paragraphs(*_prompting(facts, prompt)))


def _prompting(facts: CardFacts, prompt: PromptFacts) -> Iterator[str]:
    yield f"The prompt format is {code(prompt.name)}. {_tokens(prompt)}"
    yield _turns(prompt)
    yield prompt.marks
    yield (
        f"A prompt, exactly as the model reads it{_added(prompt)}"
        f"{'; its last line ends with a line break' if prompt.texts[0].endswith(chr(10)) else ''}:"
    )
    yield code_block(prompt.texts[0])
    if prompt.several_turns:
        yield "A conversation whose last question is to be answered:"
        yield code_block(prompt.several_turns)
    else:
        yield "The format has one question with its reply, and no place for a conversation."
    yield "`tokenizer.apply_chat_template(messages, add_generation_prompt=True)` writes the same prompt."
    if prompt.reply is not None:
        reply = prompt.reply
        yield f"Example of a generated reply ({code(reply.sampling)}), to the prompt"
        yield code_block(reply.prompt)
        yield "is"
        yield code_block(reply.reply)
        yield sources_line(facts, RECIPE, "tokenizer.json", reply.source)
        return
    yield sources_line(facts, RECIPE, "tokenizer.json")


def _tokens(prompt: PromptFacts) -> str:
    ends = " or ".join(map(code, prompt.stops))
    stop = f"A reply ends with {ends}." if ends else "No token ends a reply."
    if not prompt.controls:
        return f"It adds no tokens to the vocabulary. {stop}"
    names = " ".join(map(code, prompt.controls))
    return f"These are control tokens, and a user's text never becomes one of them in Tunesmith: {names}. {stop}"


def _turns(prompt: PromptFacts) -> str:
    """Which text opens and closes a turn of each role, and which one asks for a reply."""
    names = {"user": "a message of the user", "assistant": "a reply"}
    lines = [
        f"Before {names[role]} the format writes {_written(before)}, after it {_written(after)}."
        for role, (before, after) in prompt.turns.items()
    ]
    if prompt.asks:
        lines.append(f"A prompt ends with {_written(prompt.asks)}, which asks for a reply.")
    line_breaks = any("\n" in text for pair in (*prompt.turns.values(), (prompt.asks,)) for text in pair)
    return " ".join(lines) + (" Here `\\n` is a line break." if lines and line_breaks else "")


def _written(text: str) -> str:
    return code(text.replace("\n", "\\n")) if text else "nothing"


def _added(prompt: PromptFacts) -> str:
    words = [f"{code(token)} {where}" for token, where in zip(prompt.added, ("before", "after"), strict=True) if token]
    return f" (the tokenizer itself adds {' and '.join(words)} the text)" if words else ""


def usage(facts: CardFacts) -> CardSection:
    """Calls of the model in other programs. Its name is a placeholder, since a card does not know where it will be."""
    place = (
        "`DIRECTORY` is the directory of this model; `hf download NAME --local-dir DIRECTORY` brings it from the hub."
    )
    if facts.prompt is None:
        return CardSection(
            "usage", "Usage", paragraphs(place, code_block("tunesmith score DIRECTORY pairs.jsonl", "sh"))
        )
    return CardSection("usage", "Usage", paragraphs(place, *_usage(facts, facts.prompt)))


def _usage(facts: CardFacts, prompt: PromptFacts) -> Iterator[str]:
    """The calls of a model that writes replies."""
    question, model = prompt.questions[0], facts.model
    limit = facts.recipe.sampling.max_new_tokens
    if model.is_adapter:
        yield "With transformers and peft, where `BASE` is the directory or the name of the base model:"
    else:
        yield "With transformers, which takes the name of the model on the hub as well:"
    yield code_block("\n".join(_transformers_lines(facts, question, limit)), "python")
    if model.has_pipeline:
        yield "As a pipeline, whose code is part of the model; without `trust_remote_code` there is none:"
        yield code_block("\n".join(_own_pipeline_lines(question, limit)), "python")
    elif not model.is_encoder_decoder and not model.is_adapter:
        yield "As a pipeline:"
        yield code_block("\n".join(_pipeline_lines(question, limit)), "python")
    if model.has_adapter:
        yield "`DIRECTORY/adapter` has the adapters alone, in the files of peft."
    yield "As a function of Tunesmith, which applies the prompt format:"
    yield code_block("\n".join(_function_lines(question)), "python")
    yield "In the terminal, and as a server with OpenAI's API:"
    yield code_block("tunesmith chat DIRECTORY\ntunesmith serve DIRECTORY", "sh")
    yield code_block("\n".join(_client_lines(question)), "python")
    sampling = code(describe_parameters(facts.recipe.sampling.model_dump()))
    if model.is_adapter:
        yield f"The recipe samples with {sampling}."
        yield sources_line(facts, RECIPE)
        return
    yield f"Sampling is set in `generation_config.json`: {sampling}."
    yield sources_line(facts, RECIPE, "generation_config.json")


def _transformers_lines(facts: CardFacts, question: str, limit: int) -> Sequence[str]:
    kind = "AutoModelForSeq2SeqLM" if facts.model.is_encoder_decoder else "AutoModelForCausalLM"
    marks = MARK_REPLACEMENTS if facts.prompt is not None and facts.prompt.marks else ()
    start = "0" if facts.model.is_encoder_decoder else 'inputs["input_ids"].shape[1]'
    loading: Sequence[str] = (f'model = {kind}.from_pretrained("DIRECTORY")',)
    if facts.model.is_adapter:
        rows = facts.model.adapted_rows
        loading = (
            f'model = {kind}.from_pretrained("BASE")',
            *(() if rows is None else (f"model.resize_token_embeddings({rows})",)),
            'model = PeftModel.from_pretrained(model, "DIRECTORY")',
        )
    return (
        *(("from peft import PeftModel",) if facts.model.is_adapter else ()),
        f"from transformers import {kind}, AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("DIRECTORY")',
        *loading,
        f'messages = [{{"role": "user", "content": {_literal(question)}}}]',
        "inputs = tokenizer.apply_chat_template(",
        '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True',
        ")",
        f"outputs = model.generate(**inputs, max_new_tokens={limit})",
        f"reply = tokenizer.decode(outputs[0][{start}:], skip_special_tokens=True)",
        *(f"reply = reply.replace({mark!r}, {text!r})" for mark, text in marks),
        "print(reply)",
    )


def _pipeline_lines(question: str, limit: int) -> Sequence[str]:
    return (
        "from transformers import pipeline",
        "",
        'generate = pipeline("text-generation", "DIRECTORY")',
        f'messages = [{{"role": "user", "content": {_literal(question)}}}]',
        f'print(generate(messages, max_new_tokens={limit})[0]["generated_text"][-1]["content"])',
    )


def _own_pipeline_lines(question: str, limit: int) -> Sequence[str]:
    return (
        "from transformers import pipeline",
        "",
        'generate = pipeline("text-generation", "DIRECTORY", trust_remote_code=True)',
        f'print(generate({_literal(question)}, max_new_tokens={limit})[0]["generated_text"])',
    )


def _literal(text: str) -> str:
    """A text as Python code, with the quotes of the other code around it where it is ASCII."""
    return json.dumps(text) if text.isascii() and text.isprintable() else ascii(text)


def _function_lines(question: str) -> Sequence[str]:
    return (
        "import tunesmith",
        "",
        'generate = tunesmith.pipeline("DIRECTORY")',
        f'print(generate({_literal(question)})[0]["generated_text"])',
    )


def _client_lines(question: str) -> Sequence[str]:
    return (
        "from openai import OpenAI",
        "",
        'client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")',
        "model = client.models.list().data[0].id",
        f'messages = [{{"role": "user", "content": {_literal(question)}}}]',
        "print(client.chat.completions.create(model=model, messages=messages).choices[0].message.content)",
    )


def own_sections(facts: CardFacts) -> Iterator[CardSection]:
    """The further sections of the author."""
    for number, (heading, text) in enumerate(facts.card.sections.items(), 1):
        yield CardSection(f"own-{number}", plain(heading), author_text(text))


def intended_use(facts: CardFacts) -> CardSection | None:
    """What the author says about the use of the model."""
    text = facts.card.intended_use
    return None if text is None else CardSection("intended-use", "Intended use", author_text(text))


def citation(facts: CardFacts) -> CardSection | None:
    """How the model is cited."""
    text = facts.card.citation
    return None if text is None else CardSection("citation", "Citation", code_block(text.strip(), "bibtex"))
