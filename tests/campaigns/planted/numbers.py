"""Faults of batches, losses, gradients, gates, the self-test, finite checks, the choice of the best, and intervals."""

from __future__ import annotations

from tests.campaigns.planted.fault import PlantedFault

_TREES = "test_trees_in_one_row_equal_their_threads_through_the_stock_model"
_EQUAL = f"model/test_equivalence.py::{_TREES}[gpt_neox-False-False-threads]"
_LOOP, _OPTIMIZERS = "train/test_loop.py", "train/optim/test_optimizers.py"
_GATES, _SELF_TEST = "compose/test_gates.py", "verify/test_self_test.py"
_FINITE, _SELECTION = "train/run/test_finite_state.py", "train/run/test_selection.py"
_INTERVALS, _PAIRED = "report/test_intervals.py", "report/test_paired.py"

BATCHES = (
    PlantedFault(
        file="batch/packed.py",
        old="    source = target - 1\n",
        new="    source = target.copy()\n",
        tests=("verify/test_packed_batches.py::test_a_planted_fault_is_found",),
        harm="The labels are not shifted: every token is predicted from itself.",
    ),
    PlantedFault(
        file="batch/packed.py",
        old="source[begins[sizes > 0]] = spans[sizes > 0, 2]",
        new="source[begins[sizes > 0]] = spans[sizes > 0, 0] - 1",
        tests=(_EQUAL,),
        harm="The first token of a reply in a branch is predicted from the end of its sibling.",
    ),
    PlantedFault(
        file="batch/packed.py",
        old="until.append(each.until + token_offset)",
        new="until.append(np.full_like(each.until, 1 << 30))",
        tests=("verify/test_packed_batches.py::test_a_planted_fault_is_found",),
        harm="Packed examples see each other.",
    ),
    PlantedFault(
        file="batch/packed.py",
        old="ancestors.extend(tuple(segment + segment_offset for segment in path) for path in each.ancestors)",
        new="ancestors.extend(each.ancestors)",
        tests=(_EQUAL,),
        harm="Replies of later examples read the question of the first.",
    ),
    PlantedFault(
        file="batch/packed.py",
        old='weight = tree.spans[span, 4] if weighting == "threads" else np.ones(len(span))',
        new='weight = tree.spans[span, 4] if weighting == "messages" else np.ones(len(span))',
        tests=(_EQUAL,),
        harm="data.weighting has the opposite meaning.",
    ),
    PlantedFault(
        file="batch/packed.py",
        old="positions=concatenate([tree.positions() for tree in trees], np.int64),",
        new="positions=concatenate([np.arange(len(tree.ids)) for tree in trees], np.int64),",
        tests=(_EQUAL,),
        harm="Every branch begins where the one before it ended.",
    ),
)

LOSSES = (
    PlantedFault(
        file="objectives/sft.py",
        old='        if self.normalize == "targets":\n            return units',
        new='        if self.normalize == "targets":\n            return 1.0',
        tests=(_EQUAL,),
        harm="The loss is a sum: its gradient is a thousand times too large.",
    ),
    PlantedFault(
        file="objectives/sft.py",
        old="coefficients = batch.weight / -divisor",
        new="coefficients = batch.weight.clamp(max=1.0) / -divisor",
        tests=(_EQUAL,),
        harm="Shared messages count once where the metrics say that they count for every thread.",
    ),
    PlantedFault(
        file="train/loop.py",
        old="found = objective(policy, batch.to(policy.device), units)\n        found.loss.backward()",
        new="found = objective(policy, batch.to(policy.device), objective.units(batch))\n        found.loss.backward()",
        tests=(f"{_LOOP}::test_metrics_and_update_do_not_depend_on_micro_batches",),
        harm="Gradients of micro-batches are added up and not divided: more micro-batches, larger steps.",
    ),
    PlantedFault(
        file="train/loop.py",
        old="        optimizer.zero_grad()\n",
        new="",
        tests=(f"{_LOOP}::test_the_gradients_of_a_step_are_gone_before_the_next",),
        harm="Every step trains on the gradients of all steps before it.",
    ),
    PlantedFault(
        file="train/optim/optimizers.py",
        old="return number, min(1.0, limit / (number + 1e-6)) if limit else 1.0",
        new="return number, limit / (number + 1e-6) if limit else 1.0",
        tests=(f"{_OPTIMIZERS}::test_below_the_limit_or_without_one_nothing_is_scaled",),
        harm="Clipping enlarges small gradients.",
    ),
    PlantedFault(
        file="train/optim/optimizers.py",
        old="if parameter.ndim >= 2 and weight_decay]",
        new="if parameter.ndim >= 1 and weight_decay]",
        tests=(f"{_OPTIMIZERS}::test_biases_and_norms_have_no_weight_decay",),
        harm="Biases and the scales of norms decay to zero.",
    ),
    PlantedFault(
        file="objectives/proximal.py",
        old="-advantage * ratio.clamp(1.0 - clip, 1.0 + clip)",
        new="-advantage * ratio.clamp(max=1.0 + clip)",
        tests=("objectives/test_proximal.py::test_beyond_the_clip_nothing_is_gained_and_mistakes_are_still_corrected",),
        harm="PPO pushes bad replies down without a limit.",
    ),
    PlantedFault(
        file="objectives/advantages.py",
        old="last = order[(starts + lengths - 1)[lengths > 0]]",
        new="last = order[starts[lengths > 0]]",
        tests=("objectives/test_advantages.py::test_every_token_pays_for_its_kl_and_the_last_one_gets_the_score",),
        harm="The reward of a reply is given to its first token.",
    ),
    PlantedFault(
        file="objectives/preference_losses.py",
        old="return beta * (log_probability if reference is None else log_probability - reference)",
        new="return beta * log_probability",
        tests=("objectives/test_preference.py::test_a_policy_that_is_its_reference_has_the_initial_loss",),
        harm="DPO trains without its reference, and lengths decide.",
    ),
    PlantedFault(
        file="objectives/ranking.py",
        old="weight = 1.0 / pairs[group]",
        new="weight = torch.ones_like(pairs[group])",
        tests=("objectives/test_ranking.py::test_groups_count_alike_whatever_their_size_and_ties_form_no_pair",),
        harm="A prompt with five replies counts ten times as much as one with two.",
    ),
    PlantedFault(
        file="train/optim/schedules.py",
        old="return start + (peak - start) * (step / max(1, steps))",
        new="return start + (peak - start) * ((step + 1) / max(1, steps))",
        tests=("train/optim/test_schedules.py::test_a_warmup_begins_at_zero_and_has_its_length_as_in_transformers",),
        harm="The warm-up is one step ahead of that of transformers.",
    ),
)

GATES = (
    PlantedFault(
        file="compose/methods/ppo_gates.py",
        old="    if difference <= allowed:",
        new="    if not difference > allowed:",
        tests=(f"{_GATES}::test_a_ratio_that_is_not_a_number_fails",),
        harm="PPO begins with log-probabilities that are NaN.",
    ),
    PlantedFault(
        file="compose/methods/ppo_gates.py",
        old="allowed = TOLERANCE[actor.compute]",
        new="allowed = 100 * TOLERANCE[actor.compute]",
        tests=(f"{_GATES}::test_numbers_that_are_a_little_off_fail",),
        harm="PPO begins with ratios that are not 1.",
    ),
    PlantedFault(
        file="compose/methods/ppo_gates.py",
        old="for name in (OLD_LOG_PROBABILITY, REFERENCE))",
        new="for name in (REFERENCE, REFERENCE))",
        tests=(f"{_GATES}::test_numbers_that_are_a_little_off_fail",),
        harm="PPO measures its distance from a reference that is another model.",
    ),
    PlantedFault(
        file="compose/methods/ppo_gates.py",
        old="torch.log_softmax(logits / temperature, dim=-1)",
        new="torch.log_softmax(logits, dim=-1)",
        tests=(f"{_GATES}::test_log_probabilities_of_another_temperature_fail",),
        harm="The gate passes log-probabilities of another temperature than that of sampling.",
    ),
    PlantedFault(
        file="compose/methods/dpo.py",
        old="passed = abs(margin) <= allowed  # false for NaN",
        new="passed = not abs(margin) > allowed",
        tests=(f"{_GATES}::test_a_margin_or_loss_that_is_not_a_number_fails",),
        harm="DPO begins with margins that are NaN.",
    ),
    PlantedFault(
        file="compose/methods/dpo.py",
        old="passed = passed and abs(loss - expected) <= allowed * max(1.0, expected)",
        new="passed = passed or abs(loss - expected) <= allowed * max(1.0, expected)",
        tests=(f"{_GATES}::test_a_margin_or_loss_that_is_not_a_number_fails",),
        harm="DPO begins with a policy that is not its reference.",
    ),
    PlantedFault(
        file="compose/methods/reward_gates.py",
        old="if difference <= TOLERANCE[policy.compute]:  # false for NaN",
        new="if not difference > TOLERANCE[policy.compute]:",
        tests=(f"{_GATES}::test_a_score_that_is_not_a_number_fails",),
        harm="A reward model is trained whose scores are NaN.",
    ),
    PlantedFault(
        file="verify/differences.py",
        old="return math.nan if any(math.isnan(value) for value in listed) else max(listed, default=0.0)",
        new="return max(listed, default=0.0)",
        tests=("verify/test_differences.py::test_nan_wins_in_every_place",),
        harm="NaN is swallowed by max, and every gate passes it.",
    ),
)

SELF_TEST = (
    PlantedFault(
        file="model/shard.py",
        old="        distributed.all_reduce(found, op=distributed.ReduceOp.MAX)\n",
        new="",
        tests=("verify/test_sharded_self_test.py::test_divided_models_are_tested_like_whole_ones[2]",),
        harm="Processes decide differently about the layout of a divided model, and wait for each other for ever.",
    ),
    PlantedFault(
        file="verify/self_test.py",
        old="TOLERANCE = {torch.float32: 1e-3,",
        new="TOLERANCE = {torch.float32: 10.0,",
        tests=(f"{_SELF_TEST}::test_what_is_allowed_shrinks_with_the_logits_to_a_hundredth",),
        harm="A model is trained in a layout that its attention does not follow.",
    ),
    PlantedFault(
        file="verify/self_test.py",
        old="tolerance = TOLERANCE[compute] * min(1.0, max(LEAST_SHARE, largest / USUAL_LOGIT))",
        new="tolerance = TOLERANCE[compute]",
        tests=(f"{_SELF_TEST}::test_what_is_allowed_shrinks_with_the_logits_to_a_hundredth",),
        harm="A new model with small weights passes in a layout that is wrong for it.",
    ),
    PlantedFault(
        file="verify/self_test.py",
        old="                if not difference <= self.allowed:  # also for NaN",
        new="                if difference > self.allowed:",
        tests=(f"{_SELF_TEST}::test_a_fault_in_either_kernel_stops_the_run_of_a_reward_model[nan-flex]",),
        harm="A kernel whose results are NaN passes the self-test.",
    ),
    PlantedFault(
        file="verify/embedding_gradients.py",
        old="GRADIENT_TOLERANCE = {torch.float32: 1e-3,",
        new="GRADIENT_TOLERANCE = {torch.float32: 1.0,",
        tests=(f"{_SELF_TEST}::test_a_fault_in_either_kernel_stops_the_run_of_a_reward_model[gradient of keys-flex]",),
        harm="A kernel trains with half of its gradient.",
    ),
    PlantedFault(
        file="verify/self_test.py",
        old="if not all(bool(torch.isfinite(each).all()) for each in values):",
        new="if not all(bool(torch.isfinite(each).any()) for each in values):",
        tests=(f"{_SELF_TEST}::test_one_number_that_is_not_finite_is_enough_to_refuse_a_model",),
        harm="A base model with NaN in a weight is blamed on its layout.",
    ),
)

FINITE = (
    PlantedFault(
        file="model/finite.py",
        old="zip(names, sums.isfinite().tolist(), strict=True)",
        new="zip(names, (~sums.isnan()).tolist(), strict=True)",
        tests=(_FINITE,),
        harm="Weights with an infinity are saved and exported.",
    ),
    PlantedFault(
        file="model/finite.py",
        old="not bool(local_part(tensors[name]).isfinite().all())",
        new="not bool(local_part(tensors[name]).isfinite().any())",
        tests=(_FINITE,),
        harm="Only a tensor without any finite number is found.",
    ),
    PlantedFault(
        file="train/run/finite_state.py",
        old="    name = find_not_finite(optimizer)\n    return",
        new="    name = None\n    return",
        tests=(_FINITE,),
        harm="A checkpoint is saved whose moments are NaN, so that the next step destroys the weights.",
    ),
    PlantedFault(
        file="train/run/finite_state.py",
        old='            return f"the weight {name!r} ({group})"\n    name',
        new='            return f"the weight {name!r} ({group})"\n        break\n    name',
        tests=(_FINITE,),
        harm="A value function that is NaN is saved.",
    ),
    PlantedFault(
        file="train/run/validation.py",
        old="if not math.isfinite(value)), None)",
        new="if math.isnan(value)), None)",
        tests=(_FINITE,),
        harm="An infinite validation loss does not stop a run.",
    ),
    PlantedFault(
        file="train/run/callbacks.py",
        old="        self.check(step, examples)\n",
        new="",
        tests=("train/run/test_checkpointer.py::test_weights_that_are_not_finite_are_not_saved",),
        harm="A run saves weights that are NaN, and rotation deletes the last good ones.",
    ),
    PlantedFault(
        file="train/loop.py",
        old='            check_finite(name, value, number + 1, where=f"examples {first_numbers(step.examples)}")',
        new="            pass",
        tests=(f"{_LOOP}::test_a_number_that_is_not_finite_stops_before_the_update",),
        harm="A run goes on with a loss that is NaN.",
    ),
    PlantedFault(
        file="train/optim/optimizers.py",
        old="    if not math.isfinite(number):\n        check_finite(",
        new="    if math.isnan(number):\n        check_finite(",
        tests=(f"{_OPTIMIZERS}::test_a_gradient_that_is_not_finite_stops_the_step_and_names_it",),
        harm="An infinite gradient is clipped to zero or NaN, and the step is taken.",
    ),
)

SELECTION = (
    PlantedFault(
        file="train/run/selection.py",
        old='return value if mode == "min" else -value',
        new='return -value if mode == "min" else value',
        tests=(f"{_SELECTION}::test_by_default_the_lowest_validation_loss_is_the_best_and_the_earlier_of_equals",),
        harm="The worst checkpoint is chosen, and the others are deleted.",
    ),
    PlantedFault(
        file="train/run/selection.py",
        old="    if not math.isfinite(value):\n        return math.inf",
        new="    if math.isnan(value):\n        return -math.inf",
        tests=(f"{_SELECTION}::test_numbers_that_are_not_finite_come_back_from_the_record_as_the_worst",),
        harm="A checkpoint whose metric is NaN is the best for ever.",
    ),
    PlantedFault(
        file="train/run/selection.py",
        old="mean = math.fsum(weight * rank for weight, rank in zip(weights, row, strict=True)) / math.fsum(weights)",
        new="mean = math.fsum(row) / len(row)",
        tests=(f"{_SELECTION}::test_weights_decide_between_two_metrics_and_the_earlier_step_where_they_do_not",),
        harm="The weights of the metrics in a recipe have no effect.",
    ),
    PlantedFault(
        file="train/run/selection.py",
        old="key=lambda each: (mean_ranks[each], each))[: self.rule.keep])",
        new="key=lambda each: (mean_ranks[each], -each))[: self.rule.keep])",
        tests=(f"{_SELECTION}::test_weights_decide_between_two_metrics_and_the_earlier_step_where_they_do_not",),
        harm="Of equal checkpoints the one that was trained longer is taken.",
    ),
    PlantedFault(
        file="train/run/selection.py",
        old="candidates = (*sorted(self.kept), *((step,) if saved else ()))",
        new="candidates = (*sorted(self.kept), step)",
        tests=(f"{_SELECTION}::test_only_saved_steps_are_kept_and_never_more_than_asked_for",),
        harm="The best step has no checkpoint, and cannot be exported.",
    ),
)

INTERVALS = (
    PlantedFault(
        file="report/intervals.py",
        old="Z_95 = 1.959964",
        new="Z_95 = 1.644854",
        tests=(f"{_INTERVALS}::test_wilsons_interval_has_its_published_values",),
        harm="Intervals of 90 % are called intervals of 95 %.",
    ),
    PlantedFault(
        file="report/intervals.py",
        old="one * one - 2 * correlation * one * other + other * other",
        new="one * one + other * other",
        tests=(f"{_INTERVALS}::test_newcombes_interval_has_its_published_values",),
        harm="Answers to the same questions are compared as if they were to different ones.",
    ),
    PlantedFault(
        file="report/intervals.py",
        old="corrected = max(product - self.total / 2, 0.0) if product > 0 else product",
        new="corrected = product",
        tests=(f"{_INTERVALS}::test_newcombes_interval_has_its_published_values",),
        harm="Intervals of differences are too narrow.",
    ),
    PlantedFault(
        file="report/intervals.py",
        old="effective = p * (1 - p) / variance if variance else float(rate.total)",
        new="effective = float(rate.total)",
        tests=(f"{_INTERVALS}::test_groups_that_differ_count_as_many_independent_trials_as_have_their_variance",),
        harm="Eight replies to one prompt count as eight prompts.",
    ),
    PlantedFault(
        file="report/paired.py",
        old="level = ERROR / comparisons",
        new="level = ERROR",
        tests=(f"{_PAIRED}::test_more_comparisons_give_wider_intervals",),
        harm="Of many comparisons of equal models some are declared different.",
    ),
    PlantedFault(
        file="report/paired.py",
        old="np.quantile(weights @ scaled, (tail, 1 - tail), axis=0) * scale",
        new="np.quantile(weights @ scaled, (2 * tail, 1 - 2 * tail), axis=0) * scale",
        tests=(f"{_PAIRED}::test_the_interval_is_that_of_student_where_differences_are_normal",),
        harm="Equal models are declared different twice as often as is said.",
    ),
)
