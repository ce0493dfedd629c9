"""Faults of checkpoints, of their rotation, of locks, records and of resuming a run."""

from __future__ import annotations

from tests.campaigns.planted.fault import PlantedFault

_CRASH, _DAMAGE = "train/run/test_checkpoint_crash.py", "train/run/test_checkpoint_damage.py"
_CHECKPOINT, _RECORDS = "train/run/test_checkpoint.py", "train/run/test_metrics.py"
_RUN, _CHECKPOINTER = "train/run/test_directory.py", "train/run/test_checkpointer.py"

CHECKPOINTS = (
    PlantedFault(
        file="train/run/checkpoint_files.py",
        old='if sha256(path / name) != manifest["files"][name]["sha256"]:',
        new='if len(sha256(path / name)) != len(manifest["files"][name]["sha256"]):',
        tests=(f"{_DAMAGE}::test_random_damage_to_any_file_is_noticed",),
        harm="A run resumes from weights in which a disk has changed bits.",
    ),
    PlantedFault(
        file="train/run/checkpoint_files.py",
        old="share = by_size[communicator.rank :: communicator.size]",
        new="share = by_size[communicator.rank + 1 :: communicator.size]",
        tests=(f"{_DAMAGE}::test_random_damage_to_any_file_is_noticed",),
        harm="The largest file of a checkpoint, that of the weights, is never compared with its digest.",
    ),
    PlantedFault(
        file="train/run/checkpoint_files.py",
        old="if digest != fingerprint(content) or text != manifest_text(content).encode():",
        new="if digest != fingerprint(content):",
        tests=(f"{_DAMAGE}::test_a_manifest_in_any_other_form_does_not_pass",),
        harm="A manifest that is not what was written passes, as long as its JSON means the same.",
    ),
    PlantedFault(
        file="train/run/checkpoint_files.py",
        old="if digest != fingerprint(content) or text != manifest_text(content).encode():",
        new="if not digest:",
        tests=(f"{_DAMAGE}::test_a_flipped_bit_in_any_byte_of_manifest_state_and_header_is_noticed",),
        harm="A run continues at the step that an edited manifest names, with the weights of another.",
    ),
    PlantedFault(
        file="train/run/checkpoint_files.py",
        old="if stray := sorted(files.keys() ^ (present.keys() - {MANIFEST})):",
        new="if stray := sorted(files.keys() - present.keys()):",
        tests=(f"{_DAMAGE}::test_a_damaged_checkpoint_is_renamed_with_a_warning_and_the_older_one_used",),
        harm="Files that no save has written count as part of a checkpoint.",
    ),
    PlantedFault(
        file="train/run/checkpoint.py",
        old="        if found is not None:\n            return found\n    return None",
        new="        return found\n    return None",
        tests=(f"{_DAMAGE}::test_a_damaged_checkpoint_is_renamed_with_a_warning_and_the_older_one_used",),
        harm="A run whose newest checkpoint is damaged begins at step 0 instead of at the older one.",
    ),
    PlantedFault(
        file="train/run/checkpoint.py",
        old="return sorted(found, key=lambda each: each[1:], reverse=True)",
        new="return sorted(found, reverse=True)",
        tests=(
            f"{_CHECKPOINT}::test_the_newest_is_the_one_with_the_highest_step_in_its_manifest",
            f"{_CHECKPOINT}::test_saving_a_step_again_leaves_the_older_directory_alone",
        ),
        harm="After a million steps, or ten attempts at one, an older checkpoint counts as the newest.",
    ),
    PlantedFault(
        file="train/run/checkpoint.py",
        old="if kept >= keep:\n            surplus.append(candidate)",
        new="if kept > keep:\n            surplus.append(candidate)",
        tests=(f"{_CRASH}::test_rotation_keeps_the_newest_and_the_pinned",),
        harm="One checkpoint too many is kept, which fills the disk that was planned for.",
    ),
    PlantedFault(
        file="train/run/checkpoint.py",
        old="    for candidate in _candidates(directory, notice, communicator):\n        if kept >= keep:",
        new="    for candidate in reversed(_candidates(directory, notice, communicator)):\n        if kept >= keep:",
        tests=(f"{_CRASH}::test_rotation_keeps_the_newest_and_the_pinned",),
        harm="Rotation deletes the newest checkpoints and keeps the oldest.",
    ),
    PlantedFault(
        file="train/run/checkpoint.py",
        old="deleted = [each for each in surplus if each.step not in pinned]",
        new="deleted = surplus",
        tests=(f"{_CRASH}::test_rotation_keeps_the_newest_and_the_pinned",),
        harm="The best checkpoint of a run is deleted as soon as newer ones exist.",
    ),
    PlantedFault(
        file="train/run/checkpoint.py",
        old="elif kept >= 2 or _verify_or_rename(candidate.path, notice, communicator) is not None:",
        new="elif kept >= 1 or _verify_or_rename(candidate.path, notice, communicator) is not None:",
        tests=(f"{_CRASH}::test_rotation_reads_back_the_second_newest_too",),
        harm="Older checkpoints are deleted although the only valid one may be the newest.",
    ),
    PlantedFault(
        file="train/run/checkpoint.py",
        old="elif kept >= 2 or _verify_or_rename(candidate.path, notice, communicator) is not None:",
        new="else:",
        tests=(f"{_CRASH}::test_rotation_reads_back_before_it_deletes",),
        harm="The last valid checkpoint is deleted after a save that the disk has damaged.",
    ),
    PlantedFault(
        file="train/run/checkpoint.py",
        old="            os.rename(path, hidden / path.name)\n",
        new="            shutil.rmtree(path)\n",
        tests=(f"{_CRASH}::test_a_kill_at_any_call_of_save_and_rotate_leaves_whole_checkpoints",),
        harm="A kill while a checkpoint is deleted leaves a half of it under its name.",
    ),
    PlantedFault(
        file="train/run/checkpoint.py",
        old='while os.path.lexists(directory / (name := f"step-{step:06d}" + (f"-{attempt}" if attempt > 1 else ""))):',
        new='name = f"step-{step:06d}"\n    while False:',
        tests=(f"{_CHECKPOINT}::test_saving_a_step_again_leaves_the_older_directory_alone",),
        harm="Saving a step again replaces a checkpoint that was called complete.",
    ),
    PlantedFault(
        file="train/run/checkpoint.py",
        old='in_first(communicator, lambda: check_free_space(directory, size, f"the checkpoint of step {step}"))',
        new='check_free_space(directory, 0, f"the checkpoint of step {step}")',
        tests=(f"{_CHECKPOINT}::test_too_little_space_is_refused_before_anything_is_written",),
        harm="A save begins that cannot end, and fills the disk of everybody.",
    ),
    PlantedFault(
        file="files.py",
        old="            flush_to_disk(temporary)\n            if path.exists():",
        new="            os.rename(temporary, path) if not path.exists() else None\n            if path.exists():",
        tests=(f"{_CRASH}::test_a_kill_at_any_call_of_save_and_rotate_leaves_whole_checkpoints",),
        harm="A directory gets its name before its content is on the disk.",
    ),
)

RESUMING = (
    PlantedFault(
        file="train/run/exact_weights.py",
        old='            found.load_into(OPTIMIZER, optimizer, "optimizer state")\n',
        new="",
        tests=(f"{_CHECKPOINTER}::test_a_restored_run_has_the_weights_moments_records_and_choice_of_its_checkpoint",),
        harm="A resumed run trains with new moments, so it ends with other weights.",
    ),
    PlantedFault(
        file="train/run/callbacks.py",
        old="        self.recorder.truncate(state)\n        self.selection",
        new="        self.selection",
        tests=(f"{_CHECKPOINTER}::test_a_restored_run_has_the_weights_moments_records_and_choice_of_its_checkpoint",),
        harm="After a kill metrics.jsonl has the steps since the last checkpoint twice.",
    ),
    PlantedFault(
        file="train/run/callbacks.py",
        old="        self.selection.add_records(read_records(self.recorder.metrics.path))",
        new="        pass",
        tests=(f"{_CHECKPOINTER}::test_a_restored_run_has_the_weights_moments_records_and_choice_of_its_checkpoint",),
        harm="A resumed run forgets its best checkpoint, and deletes it.",
    ),
    PlantedFault(
        file="train/run/callbacks.py",
        old="            files[name].check(state[name], digest)",
        new="            files[name].check(0, digest) if not digest else None",
        tests=(f"{_CHECKPOINTER}::test_a_record_that_was_edited_before_the_checkpoint_stops_a_resumed_run",),
        harm="A run continues on a record of metrics that somebody has edited, and chooses its best by it.",
    ),
    PlantedFault(
        file="train/run/callbacks.py",
        old="            if in_first(self.world, path.is_dir):  # otherwise",
        new="            if in_first(self.world, lambda: True):  # otherwise",
        tests=(f"{_CHECKPOINTER}::test_a_checkpoint_that_was_damaged_at_once_is_written_again_and_called_saved_once",),
        harm="A checkpoint that the disk has damaged at once is called saved.",
    ),
    PlantedFault(
        file="train/loop.py",
        old="        step = steps[number]\n        learning_rate, norm = schedule(number), 0.0",
        new="        step = steps[number]\n        learning_rate, norm = schedule(number - start), 0.0",
        tests=("train/test_loop.py::test_a_run_that_begins_later_has_the_steps_and_the_rates_of_those_numbers",),
        harm="A resumed run warms up a second time.",
    ),
    PlantedFault(
        file="draws.py",
        old='return _integer(_with_copy(f"{seed}/noise/{epoch}/{example}", copy)) >> 1',
        new="return int(np.random.randint(1 << 31))",
        tests=("train/test_steps.py::test_a_step_is_the_same_whenever_it_is_asked_for",),
        harm="Dropout depends on a global generator, so no run can be repeated or resumed to the bit.",
    ),
    PlantedFault(
        file="draws.py",
        old='return np.argsort(_words(f"{seed}\\n{stream}\\n{epoch}", count), kind="stable").astype(np.int64)',
        new='return np.argsort(_words(f"{seed}\\n{stream}", count), kind="stable").astype(np.int64)',
        tests=("data/dataset/test_plan.py::test_epochs_and_seeds_have_orders_of_their_own",),
        harm="Every epoch has the same order of examples.",
    ),
    PlantedFault(
        file="train/optim/optimizers.py",
        old="            state.exp_avg_sq.write(square, part)\n        state.step.add_(1.0)",
        new="            state.exp_avg_sq.write(square, part)\n            state.step.add_(1.0)",
        tests=("train/optim/test_storage.py::test_offloading_and_parts_change_no_bit",),
        harm="Bias correction of large parameters counts parts as steps.",
    ),
    PlantedFault(
        file="train/run/directory.py",
        old="changed, allowed = find_changes(old, new, may_differ)",
        new="changed, allowed = find_changes(old, new, new)",
        tests=(f"{_RUN}::test_other_data_are_refused_and_other_hardware_is_announced",),
        harm="A run is continued on other data than it began with.",
    ),
    PlantedFault(
        file="train/run/value_changes.py",
        old='if any(key == each or key.startswith(f"{each}.") for each in may_differ)}',
        new="if any(key.startswith(each) for each in may_differ)}",
        tests=(f"{_RUN}::test_keys_that_may_differ_are_renewed_and_announced",),
        harm="A key that must not change may, because its name begins like that of one that may.",
    ),
)

LOCKS = (
    PlantedFault(
        file="train/run/directory.py",
        old="fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        new="fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        tests=(f"{_RUN}::test_a_second_process_gets_the_holder_of_the_lock_and_changes_nothing",),
        harm="Two processes write to one run.",
    ),
    PlantedFault(
        file="train/run/directory.py",
        old="        if _is_open_file(directory / LOCK, descriptor):",
        new="        if descriptor >= 0:",
        tests=(f"{_RUN}::test_the_lock_of_a_removed_file_is_given_up",),
        harm="A process holds the lock of a file that was removed, while another holds that of the new file.",
    ),
    PlantedFault(
        file="data/dataset/store.py",
        old="fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        new="fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        tests=("data/dataset/test_store.py::test_waiting_for_another_process_is_told",),
        harm="Two processes prepare the same data at once, in one directory.",
    ),
    PlantedFault(
        file="train/run/lock.py",
        old='if found["host"] != socket.gethostname():\n        return True',
        new='if found["host"] != socket.gethostname():\n        return False',
        tests=("train/run/test_status.py::test_a_lock_of_another_process_that_holds_nothing_is_no_use",),
        harm="A run that another machine trains is shown as stopped.",
    ),
    PlantedFault(
        file="train/run/directory.py",
        old="os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)",
        new="os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)",
        tests=(f"{_RUN}::test_a_lock_that_is_a_link_is_refused_and_the_file_behind_it_kept",),
        harm="A link with the name of the lock lets a run empty a file of somebody else.",
    ),
)

RECORDS = (
    PlantedFault(
        file="train/run/metrics.py",
        old="            while written < len(line):",
        new="            if written < len(line):",
        tests=(_RECORDS,),
        harm="A nearly full disk leaves a half of a line, and the run goes on after it.",
    ),
    PlantedFault(
        file="train/run/metrics.py",
        old="            os.ftruncate(self._descriptor, self._offset)\n",
        new="",
        tests=(f"{_RECORDS}::test_a_line_without_its_end_is_cut_off_on_opening",),
        harm="The next record is appended to a torn line, and both are lost.",
    ),
    PlantedFault(
        file="train/run/metrics.py",
        old="        if self._end_of_last_line(offset) != offset:",
        new="        if self._end_of_last_line(offset) > offset:",
        tests=(f"{_RECORDS}::test_a_position_that_the_file_does_not_have_is_refused",),
        harm="A record that is shorter than at the checkpoint is filled with zeros.",
    ),
)
