"""Faults between messages and stored token trees: masks, control tokens, truncation, their proof, the token store."""

from __future__ import annotations

from tests.campaigns.planted.fault import PlantedFault

_RENDER, _TARGETS = "text/tokens/test_render.py", "text/test_targets.py"
_STORE, _MASKS = "data/dataset/test_store.py", "verify/test_masks.py"
_FOUND = f"{_MASKS}::test_a_planted_fault_is_found_as_the_property_that_it_breaks"

MASKS = (
    PlantedFault(
        file="text/tokens/segments.py",
        old="source = first - 1 if target.start else",
        new="source = first if target.start else",
        tests=(f"{_RENDER}::test_what_siblings_share_is_stored_once",),
        harm="Every target is predicted from itself: the loss falls to zero and the model learns to copy.",
    ),
    PlantedFault(
        file="text/tokens/segments.py",
        old="found.append(_TargetSpan(middle, middle + len(own.produced), message, threads))",
        new="found.append(_TargetSpan(middle, middle + len(own.produced) - 1, message, threads))",
        tests=(f"{_RENDER}::test_the_reply_and_its_end_are_the_targets",),
        harm="The end of a reply is not trained, so the assistant never stops.",
    ),
    PlantedFault(
        file="text/tokens/segments.py",
        old="found.append(_TargetSpan(middle, middle + len(own.produced), message, threads))",
        new="found.append(_TargetSpan(middle - 1, middle + len(own.produced), message, threads))",
        tests=(f"{_RENDER}::test_the_reply_and_its_end_are_the_targets",),
        harm="The control token before a reply is trained: the assistant writes roles.",
    ),
    PlantedFault(
        file="text/tokens/segments.py",
        old="and parent >= 0 and tokens[parent].trained:",
        new="and parent >= 0:",
        tests=(f"{_RENDER}::test_an_untrained_reply_is_context_but_no_target",),
        harm="A turn that the data exclude from training is trained in part.",
    ),
    PlantedFault(
        file="text/tokens/segments.py",
        old="limit = min(min(child.leading, len(child.ids) - 1) for child in children)",
        new="limit = min(min(child.leading, len(child.ids)) for child in children)",
        tests=(f"{_RENDER}::test_equal_siblings_keep_one_token_each",),
        harm="Equal branches of a tree become one, and a thread is lost.",
    ),
    PlantedFault(
        file="text/tokens/segments.py",
        old="threads = sum(child.targets[0].threads if child.targets else 0 for child in children)",
        new="threads = children[0].targets[0].threads if children[0].targets else 0",
        tests=(f"{_RENDER}::test_what_siblings_share_is_stored_once",),
        harm="What threads share counts once instead of once for each of them.",
    ),
    PlantedFault(
        file="text/targets.py",
        old="return [message.trained is not False for message in messages]",
        new="return [True for message in messages]",
        tests=(f"{_RENDER}::test_an_untrained_reply_is_context_but_no_target",),
        harm="Replies that the data mark as not to be trained are trained.",
    ),
    PlantedFault(
        file="text/targets.py",
        old="(message.trained is None and not later))",
        new="message.trained is None)",
        tests=(f"{_TARGETS}::test_the_last_reply_is_the_only_target",),
        harm="text.targets=last trains all replies.",
    ),
    PlantedFault(
        file="text/targets.py",
        old="if len({reply.rank for reply in group}) > 1 for reply in group]",
        new="if len(group) > 1 for reply in group]",
        tests=("text/tokens/test_ranking.py::test_replies_with_different_ranks_are_compared_and_only_these",),
        harm="Replies of equal rank are compared, and one of them is pushed down.",
    ),
    PlantedFault(
        file="text/tokens/render.py",
        old='train_given=self.targets == "all",',
        new='train_given=self.targets != "ranked",',
        tests=(f"{_RENDER}::test_the_reply_and_its_end_are_the_targets",),
        harm="The questions of the user are trained: the assistant asks instead of answering.",
    ),
    PlantedFault(
        file="text/tokens/render.py",
        old="                run.close_before_control(units, control)",
        new="                run.text += piece.name",
        tests=(f"{_RENDER}::test_the_reply_and_its_end_are_the_targets",),
        harm="Control tokens are spelt as text, and generation never meets the end token.",
    ),
    PlantedFault(
        file="text/tokens/render.py",
        old="            while path and path[-1] != parent:\n                path.pop()\n                before.pop()",
        new="            while path and path[-1] != parent:\n                path.pop()",
        tests=("text/formats/test_oasst_format.py", f"{_RENDER}::test_many_trees_at_once_are_the_trees_one_by_one"),
        harm="A reply in a branch is laid out after the messages of another branch.",
    ),
    PlantedFault(
        file="text/tokens/runs.py",
        old="return OpenRun(self.runs, self.text, self.continuing)",
        new="return self",
        tests=(f"{_RENDER}::test_the_threads_of_a_tree_are_the_threads_rendered_alone",),
        harm="The text of one reply runs into that of its sibling.",
    ),
    PlantedFault(
        file="text/tokens/runs.py",
        old='self.text, self.continuing = "", True',
        new='self.text = ""',
        tests=(f"{_RENDER}::test_a_reply_after_text_is_the_continuation_of_it",),
        harm="A tokenizer writes a space between prompt and reply that chat does not write.",
    ),
    PlantedFault(
        file="text/tokens/truncate.py",
        old="shorter = _cut_right(tree, limit - np.asarray(tree.offsets()))",
        new="shorter = _cut_right(tree, limit + 1 - np.asarray(tree.offsets()))",
        tests=("text/tokens/test_truncate.py::test_cutting_keeps_exactly_the_tokens_before_the_limit",),
        harm="Threads have one token more than the model has positions.",
    ),
)

CONTROL_TOKENS = (
    PlantedFault(
        file="text/tokenizer/tokenizer.py",
        old="encoder.encode_special_tokens = True",
        new="encoder.encode_special_tokens = False",
        tests=("text/tokenizer/test_tokenizer.py::test_text_is_encoded_as_if_there_were_no_control_tokens",),
        harm="A user who writes an end token ends the turn, and may write the next one for the system.",
    ),
    PlantedFault(
        file="text/tokenizer/tokenizer.py",
        old="if not self._forbidden.isdisjoint(ids) or any(name in text for name in self._unknown.values()):",
        new="if any(name in text for name in self._unknown.values()):",
        tests=("text/tokenizer/test_tokenizer.py::test_a_control_that_the_model_itself_finds_is_cut_apart",),
        harm="Text becomes a control token where the vocabulary can spell one.",
    ),
    PlantedFault(
        file="text/tokenizer/tokenizer.py",
        old="self._forbidden = self.control_ids - self._unknown.keys()",
        new="self._forbidden = frozenset(self._controls[name] for name in controls if name in self._controls)",
        tests=("text/tokenizer/test_tokenizer.py",),
        harm="Only the tokens of the prompt format are protected, not the others of the vocabulary.",
    ),
    PlantedFault(
        file="text/tokens/render.py",
        old='        if found is not None:\n            what = f"prompt format',
        new='        if found == text:\n            what = f"prompt format',
        tests=(f"{_RENDER}::test_a_format_that_writes_a_control_token_as_text_is_refused",),
        harm="The exported chat template gives other ids than training had.",
    ),
)

PROOF = (
    PlantedFault(
        file="verify/masks.py",
        old="        if not self.targets[end]:",
        new="        if not self.targets[end - 1]:",
        tests=(_FOUND,),
        harm="`tunesmith check` passes a recipe whose replies have no trained end.",
    ),
    PlantedFault(
        file="verify/masks.py",
        old="missing = next((index for index in range(first, end) if",
        new="missing = next((index for index in range(first + 1, end) if",
        tests=(_FOUND,),
        harm="`tunesmith check` passes a mask that begins one token late.",
    ),
    PlantedFault(
        file="verify/masks.py",
        old="        for index in range(start, end + 1):\n            explained[index] = True",
        new="        for index in range(end + 1):\n            explained[index] = True",
        tests=(_FOUND,),
        harm="`tunesmith check` passes masks that train the prompt.",
    ),
    PlantedFault(
        file="verify/masks.py",
        old="            return  # its tokens are not explained, so a target among them is found\n",
        new="            return\n        explained[:] = [True] * len(explained)\n",
        tests=(f"{_MASKS}::test_a_reply_that_is_context_must_not_be_a_target",),
        harm="`tunesmith check` passes masks that train turns which the data exclude.",
    ),
    PlantedFault(
        file="verify/masks.py",
        old="        if self.ids[: len(prompt)] != prompt:",
        new="        if len(self.ids) < len(prompt):",
        tests=(_FOUND,),
        harm="`tunesmith check` passes a prompt that differs from that of chat.",
    ),
    PlantedFault(
        file="verify/masks.py",
        old="        if actual != expected:",
        new="        if not set(actual) <= set(expected):",
        tests=(_FOUND,),
        harm="`tunesmith check` passes contents that became control tokens.",
    ),
    PlantedFault(
        file="verify/masks.py",
        old="(source not in position or position[source] + 1 != position[start]):",
        new="(source not in position or position[source] > position[start]):",
        tests=(_FOUND,),
        harm="`tunesmith check` passes targets that are predicted from themselves.",
    ),
    PlantedFault(
        file="verify/masks.py",
        old="        if number and not (same and parsed.stopped):",
        new="        if number and not parsed.stopped:",
        tests=(_FOUND,),
        harm="`tunesmith check` passes replies whose tokens are another text.",
    ),
    PlantedFault(
        file="verify/masks.py",
        old="doubled = any(place and self.ids[place - 1] != eos for place in places)",
        new="doubled = any(place > 1 and self.ids[place - 1] != eos for place in places)",
        tests=(f"{_MASKS}::test_a_bos_token_inside_of_a_thread_is_found",),
        harm="`tunesmith check` passes two begin tokens at the beginning.",
    ),
    PlantedFault(
        file="verify/packed_batches.py",
        old="token for token in found.keys() | expected.keys() if",
        new="token for token in found.keys() - expected.keys() if",
        tests=("verify/test_packed_batches.py",),
        harm="The proof of batches passes weights that were lost.",
    ),
    PlantedFault(
        file="verify/packed_batches.py",
        old="seen = np.flatnonzero((place <= source[checked]) & (until > source[checked]))",
        new="seen = np.flatnonzero((place >= starts[index]) & (place <= source[checked]) & (until > source[checked]))",
        tests=("verify/test_packed_batches.py",),
        harm="The proof of batches passes examples that see the one before them.",
    ),
    PlantedFault(
        file="verify/packed_batches.py",
        old="            if not np.array_equal(positions[seen], np.arange(len(seen))):",
        new="            if len(positions[seen]) != len(seen):",
        tests=("verify/test_packed_batches.py",),
        harm="The proof of batches passes positions that run on from example to example.",
    ),
    PlantedFault(
        file="verify/packed_batches.py",
        old="return len(thread) > size and bool(np.array_equal(thread[:size], seen)) and int",
        new="return len(thread) > size and int",
        tests=("verify/test_packed_batches.py",),
        harm="The proof of batches passes siblings that see each other.",
    ),
    PlantedFault(
        file="verify/replies.py",
        old="if list(zip(replies.chosen.tolist(), replies.rejected.tolist(), strict=True)) != pairs:",
        new="if len(replies.chosen) != len(pairs):",
        tests=("verify/test_replies.py::test_a_planted_fault_in_a_packed_batch_is_found",),
        harm="The proof of rankings passes pairs whose better reply is the worse one.",
    ),
    PlantedFault(
        file="verify/replies.py",
        old="        if not np.array_equal(values.numpy(), expected, equal_nan=True):",
        new="        if not np.array_equal(np.sort(values.numpy()), np.sort(expected), equal_nan=True):",
        tests=("verify/test_replies.py::test_a_planted_fault_in_a_packed_batch_is_found",),
        harm="The proof of rankings passes reference log-probabilities of other replies.",
    ),
    PlantedFault(
        file="compose/proof.py",
        old='    failed = [check for check in checks if check.status == "fail"]',
        new='    failed = [check for check in checks if check.status == "failed"]',
        tests=("compose/test_proof.py::test_a_failed_check_ends_the_run_and_a_warning_does_not",),
        harm="A run trains although the proof has failed.",
    ),
    PlantedFault(
        file="compose/proof.py",
        old='status: Status = "pass" if highest < rows else "fail"',
        new='status: Status = "pass" if highest <= rows else "fail"',
        tests=("compose/test_proof.py::test_an_embedding_has_a_row_for_the_highest_id",),
        harm="A token id beyond the embedding ends a run in an error of PyTorch, on a GPU in the middle of nowhere.",
    ),
)

STORE = (
    PlantedFault(
        file="data/dataset/store.py",
        old='        if sha256(file) != entry["sha256"]:',
        new="        if not sha256(file):",
        tests=(f"{_STORE}::test_a_damaged_store_is_not_opened",),
        harm="Token ids in which a disk has changed bits are trained.",
    ),
    PlantedFault(
        file="data/dataset/store.py",
        old='if seal != fingerprint(index) or index.get("key") != key:',
        new='if index.get("key") != key:',
        tests=(f"{_STORE}::test_a_changed_index_is_not_believed",),
        harm="An edited index decides how many records are trained.",
    ),
    PlantedFault(
        file="data/dataset/store.py",
        old='if seal != fingerprint(index) or index.get("key") != key:',
        new="if seal != fingerprint(index):",
        tests=(f"{_STORE}::test_a_store_made_from_something_else_is_not_opened",),
        harm="A store of other data is trained.",
    ),
    PlantedFault(
        file="data/dataset/store.py",
        old='ends, lengths = self._ends[self.rows[index]], self._arrays["trees"][self.rows[index], : len(PARTS)]',
        new='ends, lengths = self._ends[index], self._arrays["trees"][index, : len(PARTS)]',
        tests=(f"{_STORE}::test_a_part_has_the_chosen_records",),
        harm="Validation records are trained: the parts of a split begin at the first record of the whole.",
    ),
    PlantedFault(
        file="data/dataset/store.py",
        old="self.digests[name].update(data)",
        new="self.digests[name] = hashlib.sha256(data)",
        tests=(f"{_STORE}::test_the_bytes_do_not_depend_on_the_parts",),
        harm="A store of several chunks is never found again, and is built at every start.",
    ),
    PlantedFault(
        file="data/dataset/building.py",
        old="    if counted != stored:",
        new="    if counted[1] < stored[1]:",
        tests=("data/dataset/test_conservation.py::test_a_token_tree_that_is_not_written_is_noticed",),
        harm="Records are lost on their way to the store without a word.",
    ),
    PlantedFault(
        file="data/dataset/cache_key.py",
        old='            "tokenizer": work.fingerprint,\n',
        new="",
        tests=("data/dataset/test_cache.py::test_changed_content_makes_another_store",),
        harm="After a change of the tokenizer the ids of the old one are trained.",
    ),
    PlantedFault(
        file="data/dataset/cache_key.py",
        old='            "code": loaded_code_digest(),\n',
        new="",
        tests=("data/dataset/test_cache.py::test_other_code_makes_another_store",),
        harm="After an update the token trees of the old version are trained.",
    ),
)
