"""Who writes the issue of a package task: the template, or a language model behind an OpenAI-compatible endpoint.

The model is told what fails and shown some of the failing tests; it is not told where the bug is. What it answers is checked
all the same, and the template stands in for an answer that is no use.
"""

from dataclasses import dataclass
from typing import Protocol

from configs.rollout_config import EndpointConfig
from envpool.endpoints.chat_endpoint import ChatEndpoint
from envpool.endpoints.endpoint_messages import text_messages
from envpool.packages.package_issue import IssueFacts, behaviour_of, gives_away, issue_text
from envpool.policy import Message, PolicyError

MAX_TOKENS = 1024
TEMPERATURE = 0.7
MIN_CHARS, MAX_CHARS = 40, 6000
MAX_LISTED = 12
MAX_SOURCE_CHARS = 3000
INSTRUCTION = """\
You write bug reports. Write the text of an issue for the Python package {package}, as a user who has met the problem would.

Say what was done, what happened, and what should have happened; a short code example helps. Do not guess at the cause, do not
say where in the package the mistake is, name no file and no line, and do not mention tests. Answer with the issue alone."""


@dataclass(frozen=True)
class WrittenIssue:
    """The text, and who wrote it: `template`, `endpoint`, or `template: ` and why the endpoint's answer was not taken."""

    text: str
    writer: str


class IssueWriter(Protocol):
    async def __call__(self, facts: IssueFacts) -> WrittenIssue: ...

    async def close(self) -> None: ...


@dataclass(frozen=True)
class TemplateWriter:
    """Always the template."""

    async def __call__(self, facts: IssueFacts) -> WrittenIssue:
        return WrittenIssue(issue_text(facts), "template")

    async def close(self) -> None:
        return None


@dataclass(frozen=True)
class EndpointWriter:
    """Asks an endpoint; never raises for what it does or says."""

    endpoint: ChatEndpoint

    async def __call__(self, facts: IssueFacts) -> WrittenIssue:
        try:
            answer = await self.endpoint.ask(text_messages(issue_request(facts)), MAX_TOKENS, TEMPERATURE, facts.seed)
        except PolicyError:
            return WrittenIssue(issue_text(facts), "template: the endpoint failed")
        text = answer.text.rpartition("</think>")[2].strip()
        problem = "the answer was cut off" if answer.finish_reason == "length" else refusal(text, facts)
        return WrittenIssue(issue_text(facts), f"template: {problem}") if problem else WrittenIssue(f"{text}\n", "endpoint")

    async def close(self) -> None:
        await self.endpoint.close()


def issue_writer(config: EndpointConfig) -> IssueWriter:
    """The writer for a configuration: without a base_url the template."""
    if not config.base_url:
        return TemplateWriter()
    return EndpointWriter(ChatEndpoint(config))


def issue_request(facts: IssueFacts) -> tuple[Message, ...]:
    """What the model is asked: the failing behaviours with pytest's messages, and some tests' source."""
    lines = []
    for test, message in sorted(facts.messages.items())[:MAX_LISTED]:
        lines.append(f"- {behaviour_of(test)}" + (f": {message}" if message and not gives_away(message, facts.bugs) else ""))
    if len(facts.messages) > MAX_LISTED:
        lines.append(f"- and {len(facts.messages) - MAX_LISTED} more")
    sources = "\n\n".join(facts.test_sources)[:MAX_SOURCE_CHARS]
    shown = f"\n\nChecks that show it:\n\n```python\n{sources}\n```" if sources else ""
    system = Message("system", INSTRUCTION.format(package=facts.package))
    return (system, Message("user", "These no longer work:\n" + "\n".join(lines) + shown))


def refusal(text: str, facts: IssueFacts) -> str:
    """Why a text cannot be the issue, or "".

    A function with a bug may be named only where the failing tests name it already: that is what a user calls.
    """
    if len(text) < MIN_CHARS:
        return "the answer is too short"
    if len(text) > MAX_CHARS:
        return "the answer is too long"
    seen = " ".join((*facts.messages, *facts.messages.values(), *facts.test_sources))
    functions = {bug.function.rpartition(".")[2] for bug in facts.bugs.bugs}
    if gives_away(text, facts.bugs) or any(name in text and name not in seen for name in functions):
        return "the answer says where the bug is"
    return ""
