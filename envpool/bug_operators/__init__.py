"""Ways to break a function, one file each: what SWE-smith calls procedural modifications.

To add one: write `<name>.py` with `<name>(module: SourceModule) -> Iterator[SourceEdit]`, which yields every place of the
module where this bug can go, in source order, and add one line here. An edit changes as little text as it can. Edits that
give no valid Python, or the same program, are dropped by the caller (`candidate_bugs`), who also chooses among them.
"""

from envpool.bug_operators.changed_constant import changed_constant
from envpool.bug_operators.negated_condition import negated_condition
from envpool.bug_operators.off_by_one import off_by_one
from envpool.bug_operators.removed_branch import removed_branch
from envpool.bug_operators.swapped_arguments import swapped_arguments
from envpool.bug_operators.swapped_comparison import swapped_comparison
from envpool.bug_operators.swapped_operator import swapped_operator
from envpool.source_edit import BugOperator

BUG_OPERATORS: dict[str, BugOperator] = {
    "swapped_operator": swapped_operator,
    "swapped_comparison": swapped_comparison,
    "changed_constant": changed_constant,
    "negated_condition": negated_condition,
    "off_by_one": off_by_one,
    "swapped_arguments": swapped_arguments,
    "removed_branch": removed_branch,
}
