// One run in the thread: the request, the stages as they happen, calls, approvals, the answer.

import { follow, post } from "./api.js";
import { byId, make, say } from "./dom.js";

const NAMES = { route: "Tool set", select: "Tool", arguments: "Arguments", answer: "Answer" };
const WHY = {
  abstained: "no tool was needed",
  needs_input: "needs something from you",
  repeated: "stopped: the same call again",
  steps: "stopped: too many steps",
  seconds: "stopped: out of time",
  tokens: "stopped: too many tokens",
  arguments: "stopped: no valid arguments",
};

export class RunView {
  #id;
  #trace = make("ol", { className: "trace", ariaLabel: "Steps" });
  #said = make("p", { className: "said" });
  #state = make("span");
  #cancel;
  #stage = null;
  #call = null;
  #approval = null;
  #denied = false;
  #total = { ms: 0, fresh: 0, reused: 0 };

  constructor(run) {
    this.#id = run.id;
    this.#cancel = make("button", {
      type: "button",
      textContent: "Cancel",
      ariaLabel: `Cancel: ${run.request.slice(0, 60)}`,
      on: { click: () => this.#stop() },
    });
    const asked = make("h2", { className: "asked", textContent: run.request });
    const foot = make("p", { className: "foot" }, this.#state, this.#cancel);
    this.element = make("li", { className: "run" }, asked, this.#trace, this.#said, foot);
    this.#tell("waiting for its turn");
  }

  async follow() {
    await follow(this.#id, (event) => this.#apply(event), (state) => this.#connection(state));
  }

  #apply({ type, data }) {
    const handlers = {
      run_started: () => this.#tell("working"),
      run_resumed: () => this.#resumed(),
      stage_started: () => this.#stageStarted(data),
      stage_finished: () => this.#stageFinished(data),
      approval_needed: () => this.#approvalNeeded(data),
      approval_given: () => this.#approvalGiven(data),
      call_started: () => this.#callStarted(data),
      call_finished: () => this.#callFinished(data),
      answer_text: () => this.#said.append(data.text),
      run_completed: () => this.#ended("completed", data),
      run_failed: () => this.#ended("failed", data),
      run_cancelled: () => this.#ended("cancelled", data),
    };
    const scroller = this.element.closest("section");
    const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 120;
    handlers[type]?.();
    if (atEnd || this.#approval) scroller.scrollTop = scroller.scrollHeight;
  }

  #resumed() {
    this.#approval?.remove();
    this.#stage?.remove();
    this.#stage = this.#approval = null;
    this.#said.textContent = "";
    this.#trace.append(make("li", { className: "note", textContent: "The service was restarted; the run goes on. What was done is not done again." }));
    this.#tell("working");
  }

  #stageStarted({ stage, adapter }) {
    this.#stage = make(
      "li",
      { className: `stage running ${stage}`, data: { stage } },
      make("span", { className: "name", textContent: NAMES[stage] ?? stage }),
      make("span", { className: "what" }, make("span", { className: "chip", title: "adapter", textContent: adapter ?? "base model" })),
      make("span", { className: "cost", textContent: "…" }),
    );
    this.#trace.append(this.#stage);
    if (stage === "answer") this.#said.textContent = "";
  }

  #stageFinished(record) {
    if (!this.#stage) this.#stageStarted(record);
    const [, what, cost] = this.#stage.children;
    this.#stage.classList.remove("running");
    if (record.choice) what.append(" ", make("strong", { textContent: record.choice }));
    if (record.probability != null) what.append(sure(record));
    cost.textContent = `${record.prefill_tokens} new, ${record.reused_tokens} reused, ${Math.round(record.ms)} ms`;
    cost.title = `${record.decoded_tokens} tokens decoded, ${record.forced_tokens ?? 0} of them dictated by the grammar`;
    this.#total.ms += record.ms;
    this.#total.fresh += record.prefill_tokens;
    this.#total.reused += record.reused_tokens;
    this.#stage = null;
  }

  #approvalNeeded(call) {
    const heading = `May I call ${call.tool_set}.${call.tool}?`;
    const buttons = ["Approve", "Deny"].map((text, index) => make("button", {
      type: "button",
      textContent: text,
      className: index === 0 ? "primary" : "",
      on: { click: (click) => this.#answer(call.call_id, index === 0, click.target) },
    }));
    this.#approval = make("li", {}, make(
      "div",
      { className: "approval", role: "group", ariaLabel: heading },
      make("h3", { textContent: heading }),
      make("p", { className: "quiet", textContent: call.description }),
      make("pre", { textContent: JSON.stringify(call.arguments, null, 2), tabIndex: 0, ariaLabel: "Arguments" }),
      make("div", { className: "actions" }, ...buttons),
    ));
    this.#trace.append(this.#approval);
    this.#tell("waits for you");
    say(`${heading} Approve or deny.`);
  }

  #approvalGiven({ approved }) {
    this.#approval?.remove();
    this.#approval = null;
    this.#denied = !approved;
    this.#tell(approved ? "approved, working" : "denied, working");
  }

  #callStarted(call) {
    this.#call = callCard(call, "calling …");
    this.#trace.append(this.#call);
  }

  #callFinished(step) {
    const state = this.#denied ? "denied" : step.is_error ? "failed" : "observed";
    this.#denied = false;
    const card = callCard(step, state, step);
    if (this.#call) this.#call.replaceWith(card);
    else this.#trace.append(card);
    this.#call = null;
  }

  #ended(status, data) {
    this.#cancel.remove();
    this.#approval?.remove();
    this.#approval = null;
    if (data.answer != null) this.#said.textContent = data.answer;
    if (data.error) this.#said.append(make("span", { className: "problem", textContent: data.error }));
    const { ms, fresh, reused } = this.#total;
    const cost = `${(ms / 1000).toFixed(1)} s of model time, ${fresh} tokens computed, ${reused} reused`;
    this.#tell([status, WHY[data.stopped], cost].filter(Boolean).join(" · "));
    say(data.answer ? `Answer: ${data.answer}` : status);
  }

  #connection(state) {
    if (state === "lost") this.#tell("connection lost, trying again …");
    this.element.dataset.connection = state;
  }

  async #answer(call, approve, button) {
    const buttons = [...button.parentElement.children];
    for (const one of buttons) one.disabled = true;
    try {
      await post(`/v1/runs/${this.#id}/approval`, { call_id: call, approve });
      byId("request").focus();
    } catch (error) {
      this.#tell(error.message);
      for (const one of buttons) one.disabled = false;
      button.focus();
    }
  }

  async #stop() {
    this.#cancel.disabled = true;
    try {
      await post(`/v1/runs/${this.#id}/cancel`);
    } catch (error) {
      this.#tell(error.message);
      this.#cancel.disabled = false;
    }
  }

  #tell(text) {
    this.#state.textContent = text;
  }
}

function sure({ probability, margin, alternatives }) {
  const percent = `${Math.round(probability * 100)} %`;
  const fill = make("i");
  fill.style.width = `${probability * 100}%`;
  const bar = make("span", { className: "bar", ariaHidden: "true" }, fill);
  const title = `probability ${percent}, ahead of the next by at least ${Math.round(margin * 100)} points`;
  const shown = make("span", { className: "sure", title }, bar, percent);
  const others = (alternatives ?? []).filter(([, share]) => share >= 0.005);
  if (!others.length) return shown;
  const list = others.map(([name, share]) => `${name} ${Math.round(share * 100)} %`).join(", ");
  return make("span", {}, shown, make("span", { className: "others", textContent: `before ${list}` }));
}

function callCard(call, state, step = null) {
  const seen = step && make("pre", { textContent: step.observation, tabIndex: 0, ariaLabel: "Observation" });
  return make(
    "li",
    { className: "call" },
    make("h3", {}, make("span", { className: "code", textContent: `${call.tool_set}.${call.tool}` }), " ",
      make("span", { className: state === "failed" ? "failed" : "quiet", textContent: state })),
    make("div", { className: "code", textContent: JSON.stringify(call.arguments) }),
    seen && make("details", { open: step.observation.length < 400 }, make("summary", { textContent: "Observation" }), seen),
  );
}
