"""The list behind cluster.metric_catalogue. A line: name | unit | + or - where more or less is better, else nothing | meaning."""

REWARD = """
reward/mean | reward | + | Mean reward of the episodes that train, as shaped for training.
reward/std | reward | | Standard deviation of the same rewards, over all groups of the step.
reward/alpha | 1 | | Weight of the shaped part of the reward in this step.
"""

ROLLOUT = """
rollout/groups | groups | | Groups that the step trains on.
rollout/episodes | episodes | | Graded episodes in them.
rollout/lost | episodes | - | Episodes that infrastructure broke, or that were cut with their group; in neither loss nor baseline.
rollout/infra_failure | share | - | Lost episodes that were not cut, of all episodes begun for these groups.
rollout/masked | episodes | | Graded episodes that do not train.
rollout/resolved | share | + | Episodes whose patch passed the hidden tests, before any shaping.
rollout/zero_spread | share | - | Groups whose rewards are all equal, which teach nothing.
rollout/flat_in_a_row | groups | - | Groups without spread since the last one with spread.
rollout/turns | turns | | Turns per episode.
rollout/samples | sequences | | Sequences per episode, above 1 where its history was rewritten.
rollout/tokens | tokens | | Tokens per episode, prompts and observations included.
rollout/completion_tokens | tokens | | Sampled tokens per episode.
rollout/truncated | share | - | Episodes that a budget ended: turns, tokens, context or time.
rollout/empty_patch | share | - | Episodes that changed nothing.
rollout/history_reads | commands | - | Commands per episode that look for the fix in the repository's history (it is not there).
rollout/episode_s | s | - | Seconds per episode in its sandbox.
rollout/late_groups | groups | - | Groups cut because `grpo.step_timeout_s` was over.
rollout/rejected_groups | groups | - | Groups lost, dropped or too old while the step waited.
rollout/replacements | groups | - | Groups of other tasks played in place of groups without spread.
rollout/staleness | versions | - | Batches between the weights that sampled a token and those its step begins with, mean.
rollout/staleness_max | versions | - | The largest of them.
rollout/stale_tokens | tokens | - | Sampled tokens too old to train.
stop/<reason> | share | | Episodes that ended for this reason (docs/agent_episode.md has the list).
"""

WINDOW = """
window/submitted | groups | | Groups begun so far in this run.
window/accepted | groups | | Groups trained on so far.
window/rejected | groups | - | Groups that came to nothing so far.
window/running | groups | | Groups in flight: played now or finished and waiting.
window/waiting | groups | | Finished groups that wait for a step.
"""

LEARNER = """
loss | loss | - | The step's loss: nats per token for SFT, the policy loss for GRPO (there its size says little).
step | steps | | The row's step, counted from 1.
lr | 1 | | Learning rate of the step.
grad_norm | 1 | | Gradient norm before clipping.
tokens | tokens | | Tokens of all samples of the step.
trained_tokens | tokens | | Tokens with a loss.
samples | sequences | | Samples of the step.
skipped | updates | - | Updates that left the weights as they were: nothing to train on, or a gradient not finite or too large.
skipped_total | updates | - | Such updates so far.
ratio | 1 | | Policy over behaviour probability, mean of trained tokens; 1 when on-policy.
sequence_ratio | 1 | | The same of whole trajectories (gspo).
clip_fraction_low | share | | Trained tokens cut at the lower clip.
clip_fraction_high | share | | Trained tokens cut at the upper clip.
logprob_gap | nats | - | Absolute difference of learner's and engine's log-prob, mean of trained tokens.
logprob_gap_max | nats | - | The largest.
kl | nats | | k3 estimate of KL(behaviour, policy) per token.
kl_reference | nats | | k3 estimate of KL(policy, weights that the stage began with); with `grpo.kl_coefficient` > 0.
entropy_estimate | nats | | Minus the log-prob of the sampled tokens, mean: an estimate of the policy's entropy.
assistant_loss | nats | - | Cross entropy of the tokens that the model has to write.
validation_loss | nats | - | The same on samples that are kept out, at checkpoints.
epoch | epochs | | How often the data was seen.
dropped_samples | sequences | - | Training samples left out because they are too long.
cut_samples | sequences | - | Training samples cut at the longest length.
empty_samples | sequences | - | Training samples without a token to learn.
importance/mean | 1 | | Mean weight for the difference between engine and learner (`grpo.importance_weight`).
importance/changed | share | | Tokens whose weight was truncated.
importance/zero | share | | Tokens whose weight is 0: they teach nothing.
"""

SYNC = """
sync/gap_mean | nats | - | Engine against learner after the weights were handed over, mean over freshly sampled tokens.
sync/gap_max | nats | - | The largest difference.
sync/gap_kl | nats | - | k3 estimate of KL(engine, learner).
sync/gap_tokens | tokens | | Tokens compared; 0: an engine broke during the check, and nothing was.
"""

SECONDS = """
seconds/wall | s | - | The step, from its begin to the next one's begin; the labels below sum to it.
seconds/generate | s | | Waiting for rollouts that generate.
seconds/tool | s | | Waiting for rollouts whose tools run.
seconds/queue | s | - | Waiting for rollouts that wait: for a slot, a sandbox or a place in an engine.
seconds/grade | s | | Waiting for hidden tests, their sandbox included.
seconds/train | s | | The learner: log-probs, forward, backward, step.
seconds/sync | s | - | Handing the weights to the engines, with the comparison after it.
seconds/checkpoint | s | - | Writing checkpoints.
seconds/evaluation | s | - | Waiting for the last evaluation after the last step.
seconds/other | s | - | The rest: bookkeeping, writing trajectories, idle; and rollout seconds that no episode accounts for.
episode/total_s | s | - | An episode from asking for a slot to its reward, mean; the next five sum to it.
episode/generate_s | s | | Of it: completions, a wait in the engine included.
episode/tool_s | s | | Of it: tool calls.
episode/queue_s | s | - | Of it: waiting for a slot and a sandbox, its start included.
episode/grade_s | s | | Of it: grading, its sandbox included.
episode/other_s | s | - | Of it: preparing the sandbox, taking the patch, tries that broke.
time/rollout_wait_s | s | - | The step waited this long for its groups.
time/train_s | s | | The learner's seconds.
time/sync_s | s | - | Sending the weights.
"""

PERFORMANCE = """
perf/train_tokens_per_s | tokens/s | + | Tokens through the learner per second of its step.
perf/train_tflops | TFLOP/s | + | Model FLOPs per second, all ranks; recomputation is not counted.
perf/mfu | share | + | The same as a share of the GPUs' dense bf16 peak; only where the peak is known.
perf/peak_memory_gib | GiB | - | Largest memory of a learner rank: GPU memory allocated, or the process's on a CPU.
perf/engine_idle | share | - | Share of the step in which an engine had no request, mean over engines.
perf/learner_idle | share | - | Share of the step in which the learner did not compute.
perf/gpu_idle | share | - | Both, weighted by their GPUs; only with GPUs.
engine/queue_share | share | - | Share of the requests' seconds that were spent waiting to be let in.
engine/requests | requests | | Requests finished since the last step.
engine/tokens_per_s | tokens/s | + | Sampled tokens per second, all engines.
engine/kv_usage | share | | Share of KV cache blocks in use, the fullest engine's, when asked.
engine/preemptions | requests | - | Requests that lost their KV cache since the last step.
engine/cached_share | share | + | Prompt tokens answered from the prefix cache since the last step.
engine/restarts | restarts | - | Engine restarts so far.
"""

SANDBOX = """
sandbox/start_p50_s | s | - | Starting a sandbox, median since the last step (4 % wide bins).
sandbox/start_p95_s | s | - | The same, 95th percentile.
sandbox/exec_p50_s | s | - | A command in a sandbox, median.
sandbox/exec_p95_s | s | - | The same, 95th percentile.
sandbox/eval_p50_s | s | - | Grading a patch, median.
sandbox/eval_p95_s | s | - | The same, 95th percentile.
sandbox/started | sandboxes | | Started since the last step.
sandbox/lost | sandboxes | - | Died or outlived their lease since the last step.
sandbox/warm_hits | leases | + | Leases since the last step that found a sandbox started ahead.
sandbox/active | leases | | Leases now.
sandbox/swept | sandboxes | - | Leftovers removed since the last step.
sandbox/graded | patches | | Patches graded since the last step.
sandbox/shared | patches | | Grades since the last step that another episode's equal patch had paid for.
"""

EVALUATION = """
eval/resolved | share | + | pass@1 on held-out tasks: mean over tasks of the resolved share; only when no task was lost.
eval/tasks | tasks | | Tasks with an episode.
eval/episodes | episodes | | Episodes.
eval/lost | episodes | - | Episodes that infrastructure broke.
eval/skipped | evaluations | - | Evaluations left out so far because one was running.
eval/version_min | version | | Oldest weights that sampled in it.
eval/version_max | version | | Newest weights that sampled in it.
"""

ENDPOINT = """
endpoint/sessions | episodes | | Episodes that asked the endpoint.
endpoint/requests | requests | | Requests to it.
endpoint/prompt_tokens | tokens | - | Tokens sent.
endpoint/cached_tokens | tokens | + | Of them, answered from its cache.
endpoint/completion_tokens | tokens | | Tokens it wrote.
endpoint/cost_usd | USD | - | What they cost by the configured prices.
"""

TABLES: tuple[tuple[str, str], ...] = (
    ("Reward", REWARD),
    ("Rollouts", ROLLOUT),
    ("Rollout window", WINDOW),
    ("Learner", LEARNER),
    ("Weights handed over", SYNC),
    ("Where a step's seconds go", SECONDS),
    ("Speed and idleness", PERFORMANCE),
    ("Sandboxes", SANDBOX),
    ("Evaluation", EVALUATION),
    ("Teachers behind an endpoint", ENDPOINT),
)
"""(title, lines) of every section of docs/metrics.md."""
