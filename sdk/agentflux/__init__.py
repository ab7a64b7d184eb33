"""AgentFlux Edge: small local language models that call tools reliably, on the user's device.

```python
import agentflux

with agentflux.open_bundle("desk-bundle", mcp="servers.json") as agent:
    print(agent.run("what is in docs/plan.md?", context="Workspace root: /home/ana/desk").answer)
```
"""

from agentflux import errors
from agentflux.contracts.cache import cache_folder
from agentflux.contracts.prompts import Situation, Turn
from agentflux.contracts.tools import Step, ToolCall, ToolResult, ToolSpec
from agentflux.errors import AgentFluxError
from agentflux.hosts.local import LocalTools, tool
from agentflux.hosts.scripted import ScriptedHost
from agentflux.orchestration.chat import TextOptions
from agentflux.orchestration.events import (
    AnswerText,
    ApprovalGiven,
    ApprovalNeeded,
    CallFinished,
    CallStarted,
    Event,
    StageFinished,
    StageStarted,
)
from agentflux.orchestration.journal import Journal
from agentflux.orchestration.results import Budget, RunResult
from agentflux.orchestration.stages import Decision
from agentflux.ports import CancelToken, Completion, Sampling, StageRecord, Usage
from agentflux.report import StagePrinter
from agentflux.session import Agent, open_bundle

__all__ = [
    "Agent",
    "AgentFluxError",
    "AnswerText",
    "ApprovalGiven",
    "ApprovalNeeded",
    "Budget",
    "CallFinished",
    "CallStarted",
    "CancelToken",
    "Completion",
    "Decision",
    "Event",
    "Journal",
    "LocalTools",
    "RunResult",
    "Sampling",
    "ScriptedHost",
    "Situation",
    "StageFinished",
    "StagePrinter",
    "StageRecord",
    "StageStarted",
    "Step",
    "TextOptions",
    "ToolCall",
    "ToolResult",
    "ToolSpec",
    "Turn",
    "Usage",
    "cache_folder",
    "errors",
    "open_bundle",
    "tool",
]
