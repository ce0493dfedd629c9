"""Faults of what leaves a run or comes back to it: exports, uploads, the search for secrets, references, rollouts."""

from __future__ import annotations

from tests.campaigns.planted.fault import PlantedFault

_EXPORT, _PUSH = "model/test_export_replaced.py", "publish/hub/test_push.py"
_FINDINGS, _CONTENTS = "publish/hub/test_findings.py", "publish/hub/test_contents.py"
_REFERENCES, _ROLLOUTS = "compose/test_references.py", "train/rollout/test_files.py"

EXPORTS = (
    PlantedFault(
        file="model/export_manifest.py",
        old="if (largest is None or size <= largest) and sha256(path) != digest:",
        new="if (largest is None or size <= largest) and not digest:",
        tests=(f"{_EXPORT}::test_a_damaged_export_is_not_loaded",),
        harm="An export is loaded in whose weights a disk has changed bits.",
    ),
    PlantedFault(
        file="model/export_manifest.py",
        old='find_changed_file(directory, manifest, suffix=".safetensors", largest=HASHED)',
        new='find_changed_file(directory, manifest, suffix=".json", largest=HASHED)',
        tests=(f"{_EXPORT}::test_a_damaged_export_is_not_loaded",),
        harm="Before an export is loaded its text is compared, and its weights are not.",
    ),
    PlantedFault(
        file="model/export_manifest.py",
        old='            return f"{name} is missing"',
        new="            continue",
        tests=("model/test_export_manifest.py::test_a_file_that_is_lost_or_changed_is_named",),
        harm="An export of which a file of weights is lost counts as whole.",
    ),
    PlantedFault(
        file="model/export_manifest.py",
        old="if seal is None or seal != fingerprint(content) or not all(_is_plain(name) for name in files):",
        new="if seal is None or seal != fingerprint(content):",
        tests=(f"{_EXPORT}::test_a_list_that_names_files_elsewhere_is_refused",),
        harm="The list of an export from elsewhere names files outside of its directory.",
    ),
    PlantedFault(
        file="model/export_manifest.py",
        old="names = sorted(path.name for path in directory.iterdir() if path.name not in ours)",
        new="names = sorted(path.name for path in directory.iterdir() if path.name not in ours and path.is_dir())",
        tests=(f"{_EXPORT}::test_files_of_the_user_are_said",),
        harm="A model card that the user has written into an export is deleted by the next one.",
    ),
    PlantedFault(
        file="model/export_manifest.py",
        old="manifest is not None and manifest.origin == origin and find_changed_file",
        new="manifest is not None and find_changed_file",
        tests=("model/test_export_manifest.py::test_every_file_is_listed_and_an_export_is_that_of_its_origin",),
        harm="The export of other weights counts as that of a run, and stays.",
    ),
    PlantedFault(
        file="compose/export_records.py",
        old='published = Recipe.model_validate(paths.remove(recipe.model_dump(mode="json")))',
        new="published = recipe",
        tests=("compose/test_export_records.py::test_what_an_export_says_of_its_run_can_be_read",),
        harm="A published recipe has the paths of this machine.",
    ),
    PlantedFault(
        file="files.py",
        old="                _exchange(temporary, path)",
        new="                shutil.rmtree(path)\n                os.rename(temporary, path)",
        tests=("model/test_export_replaced.py::test_a_kill_at_any_call_leaves_a_complete_export_and_the_users_files",),
        harm="A kill while an export is replaced leaves neither the old one nor the new one.",
    ),
)

UPLOADS = (
    PlantedFault(
        file="publish/hub/push.py",
        old="private = repository.create(private=True)",
        new="private = repository.create(private=not access.public)",
        tests=(f"{_PUSH}::test_the_gate_is_set_before_any_file_is_there_and_a_repository_is_public_only_at_the_end",),
        harm="Everybody sees an upload that is not complete.",
    ),
    PlantedFault(
        file="publish/hub/push.py",
        old="    check_published(repository, files, STAGING)\n",
        new="",
        tests=(f"{_PUSH}::test_a_damaged_upload_is_noticed_on_the_staging_branch",),
        harm="Weights that were damaged on the way are published.",
    ),
    PlantedFault(
        file="publish/hub/push.py",
        old="        repository.set_access(gate=access.gate, private=None)\n",
        new="        pass\n",
        tests=(f"{_PUSH}::test_the_gate_is_set_before_any_file_is_there_and_a_repository_is_public_only_at_the_end",),
        harm="A model that should be gated is open.",
    ),
    PlantedFault(
        file="publish/hub/push.py",
        old="    if surplus and not replace:",
        new="    if surplus and replace:",
        tests=(f"{_PUSH}::test_other_files_of_the_repository_are_deleted_only_on_request",),
        harm="Files of a repository are deleted without a request.",
    ),
    PlantedFault(
        file="publish/hub/repository.py",
        old="revision=branch, parent_commit=parent, num_threads=2",
        new="revision=branch, num_threads=2",
        tests=(f"{_PUSH}::test_a_commit_of_somebody_else_meanwhile_is_not_overwritten",),
        harm="A commit of somebody else is overwritten.",
    ),
    PlantedFault(
        file="publish/hub/repository.py",
        old="if present.get(each.name) not in (each.sha256, each.blob)]",
        new="if each.name not in present]",
        tests=(f"{_PUSH}::test_a_damaged_upload_is_noticed_on_the_staging_branch",),
        harm="A file counts as published if its name is there, with any content.",
    ),
    PlantedFault(
        file="publish/hub/contents.py",
        old="if any(Path(path.name.lower()).match(pattern) for pattern in PICKLED):",
        new="if path.name in PICKLED:",
        tests=(f"{_CONTENTS}::test_a_file_that_is_no_part_of_a_model_is_refused",),
        harm="A pickle is published, which runs code where it is loaded.",
    ),
    PlantedFault(
        file="publish/hub/contents.py",
        old="if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):",
        new="if path.is_symlink() and not path.is_relative_to(directory):",
        tests=(f"{_CONTENTS}::test_a_link_out_of_the_directory_is_refused_and_one_inside_is_followed",),
        harm="A link publishes a file of the home directory.",
    ),
)

SECRETS = (
    PlantedFault(
        file="publish/hub/findings.py",
        old='re.compile(_WORD + r"(?:hf|api_org)_[A-Za-z0-9]{30,}"),',
        new='re.compile(_WORD + r"(?:api_org)_[A-Za-z0-9]{30,}"),',
        tests=(f"{_FINDINGS}::test_a_secret_is_found_with_its_line",),
        harm="A token of the hub is published.",
    ),
    PlantedFault(
        file="publish/hub/findings.py",
        old='re.compile(_WORD + r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"),',
        new='re.compile(_WORD + r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{20}(?![A-Za-z0-9])"),',
        tests=(f"{_FINDINGS}::test_a_secret_is_found_with_its_line",),
        harm="A key of AWS is published.",
    ),
    PlantedFault(
        file="publish/hub/findings.py",
        old="piece, text = piece[-OVERLAP:] + text, file.read(PIECE)",
        new="piece, text = text, file.read(PIECE)",
        tests=(f"{_FINDINGS}::test_a_secret_across_pieces_of_a_large_file_is_found_once",),
        harm="A key at the border of two pieces of a large file is published.",
    ),
    PlantedFault(
        file="publish/hub/findings.py",
        old='            if "\\0" in piece:',
        new='            if "\\0\\0\\0\\0" in piece:',
        tests=(f"{_FINDINGS}::test_a_secret_in_another_encoding_is_found",),
        harm="A key in a text of Windows (UTF-16) is published.",
    ),
    PlantedFault(
        file="publish/hub/findings.py",
        old="        for kind, _, text in _matches(name, names):",
        new="        for kind, _, text in _matches(Path(name).suffix, names):",
        tests=(f"{_FINDINGS}::test_a_secret_in_the_name_of_a_file_is_found",),
        harm="A key in the name of a file is published.",
    ),
    PlantedFault(
        file="publish/hub/findings.py",
        old='return io.StringIO(file.read(min(length, LARGEST_HEADER)).decode("utf-8", "replace"))',
        new='return io.StringIO("")',
        tests=(f"{_FINDINGS}::test_a_secret_in_the_metadata_of_weights_is_found",),
        harm="A key in the metadata of weights is published.",
    ),
    PlantedFault(
        file="publish/hub/findings.py",
        old="next((call for magic, call in COMPRESSED.items() if start.startswith(magic)), open)",
        new='gzip.open if path.suffix == ".gz" else open',
        tests=(f"{_FINDINGS}::test_a_secret_in_a_compressed_file_is_found",),
        harm="A key in a compressed file is published.",
    ),
    PlantedFault(
        file="publish/hub/findings.py",
        old='        found[home] = "home directory"',
        new="        pass",
        tests=(f"{_FINDINGS}::test_names_and_variables_of_this_machine_are_found_and_not_repeated_in_full",),
        harm="The name of a user is published with a home directory in an unusual place.",
    ),
)

REFERENCES = (
    PlantedFault(
        file="compose/models/reference_cache.py",
        old='if description != {"key": key, "sha256": sha256(file), "replies": count}:',
        new='if description["key"] != key or description["replies"] != count:',
        tests=(f"{_REFERENCES}::test_damaged_values_are_computed_again",),
        harm="DPO trains against reference log-probabilities in which a disk has changed bits.",
    ),
    PlantedFault(
        file="compose/models/reference_cache.py",
        old="    check_references(model, store, found, directory)\n    return found",
        new="    return found",
        tests=(f"{_REFERENCES}::test_values_of_another_model_are_refused",),
        harm="Reference log-probabilities of another model are accepted.",
    ),
    PlantedFault(
        file="compose/models/reference_cache.py",
        old="np.logical_not(np.abs(recomputed - cached) <= allowed)",
        new="(np.abs(recomputed - cached) > allowed)",
        tests=(f"{_REFERENCES}::test_values_that_are_not_numbers_are_refused",),
        harm="Reference log-probabilities that are NaN are accepted.",
    ),
    PlantedFault(
        file="compose/models/reference_cache.py",
        old='"examples": hashlib.sha256(store.keys.tobytes()).hexdigest()})',
        new='"examples": len(store)})',
        tests=(f"{_REFERENCES}::test_other_records_have_other_values",),
        harm="Reference log-probabilities of other records are taken from the cache.",
    ),
    PlantedFault(
        file="compose/models/reference_cache.py",
        old="        digest.update(whole(tensor).contiguous().cpu().view(torch.uint8).numpy().data)\n",
        new="",
        tests=(f"{_REFERENCES}::test_the_digest_of_a_model_is_that_of_its_weights",),
        harm="After another run the reference log-probabilities of its start are taken for those of this one.",
    ),
    PlantedFault(
        file="train/rollout/files.py",
        old='if seal != fingerprint(index) or index.get("iteration") != iteration:',
        new="if seal != fingerprint(index):",
        tests=(f"{_ROLLOUTS}::test_damage_is_found_and_the_error_advises",),
        harm="A resumed run of PPO trains on the replies of another iteration.",
    ),
)
