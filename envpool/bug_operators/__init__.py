"""Ways to break a function, one file each: what SWE-smith calls procedural modifications.

To add one: write `<name>.py` with `<name>(module: SourceModule) -> Iterator[SourceEdit]`, which yields every place of the
module where this bug can go, in source order, and add one line here. An edit changes as little text as it can. Edits that
give no valid Python, or the same program, are dropped by the caller (`candidate_bugs`), who also chooses among them.
"""

from envpool.bug_operators.changed_constant import changed_constant
from envpool.bug_operators.changed_default import changed_default
from envpool.bug_operators.changed_loop_exit import changed_loop_exit
from envpool.bug_operators.dropped_condition import dropped_condition
from envpool.bug_operators.dropped_keyword import dropped_keyword
from envpool.bug_operators.dropped_slice_bound import dropped_slice_bound
from envpool.bug_operators.dropped_term import dropped_term
from envpool.bug_operators.missing_return import missing_return
from envpool.bug_operators.narrowed_exception import narrowed_exception
from envpool.bug_operators.negated_condition import negated_condition
from envpool.bug_operators.off_by_one import off_by_one
from envpool.bug_operators.overwritten_value import overwritten_value
from envpool.bug_operators.removed_branch import removed_branch
from envpool.bug_operators.removed_conversion import removed_conversion
from envpool.bug_operators.removed_statement import removed_statement
from envpool.bug_operators.swapped_arguments import swapped_arguments
from envpool.bug_operators.swapped_call import swapped_call
from envpool.bug_operators.swapped_comparison import swapped_comparison
from envpool.bug_operators.swapped_elements import swapped_elements
from envpool.bug_operators.swapped_operator import swapped_operator
from envpool.bug_operators.wrong_attribute import wrong_attribute
from envpool.bug_operators.wrong_variable import wrong_variable
from envpool.packages.source_edit import BugOperator

BUG_OPERATORS: dict[str, BugOperator] = {
    "swapped_operator": swapped_operator,
    "swapped_comparison": swapped_comparison,
    "changed_constant": changed_constant,
    "negated_condition": negated_condition,
    "off_by_one": off_by_one,
    "swapped_arguments": swapped_arguments,
    "removed_branch": removed_branch,
    "removed_statement": removed_statement,
    "wrong_variable": wrong_variable,
    "wrong_attribute": wrong_attribute,
    "changed_default": changed_default,
    "missing_return": missing_return,
    "narrowed_exception": narrowed_exception,
    "dropped_slice_bound": dropped_slice_bound,
    "changed_loop_exit": changed_loop_exit,
    "swapped_call": swapped_call,
    "dropped_keyword": dropped_keyword,
    "dropped_condition": dropped_condition,
    "dropped_term": dropped_term,
    "removed_conversion": removed_conversion,
    "overwritten_value": overwritten_value,
    "swapped_elements": swapped_elements,
}
