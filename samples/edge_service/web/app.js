// Starts the page: asks for the key, shows earlier runs, sends requests.

import { get, getKey, post, setKey } from "./api.js";
import { byId, say } from "./dom.js";
import { RunView } from "./run.js";
import { initSide, showCatalog } from "./side.js";

const EARLIER = 10;
const shown = new Set();

function show(run) {
  if (shown.has(run.id)) return;
  shown.add(run.id);
  byId("welcome").hidden = true;
  const view = new RunView(run);
  byId("thread").append(view.element);
  view.element.scrollIntoView({ block: "end" });
  view.follow().catch((error) => say(error.message));
}

async function connect() {
  await showCatalog();
  const { data } = await get(`/v1/runs?limit=${EARLIER}`);
  data.reverse().forEach(show);
}

async function send(submit) {
  submit.preventDefault();
  const request = byId("request");
  if (!request.value.trim()) return;
  const button = byId("send");
  button.disabled = true;
  try {
    show(await post("/v1/runs", { request: request.value, context: byId("context").value }));
    request.value = "";
  } catch (error) {
    if (error.status === 401) askKey(error.message);
    else complain(error.message);
  } finally {
    button.disabled = false;
    request.focus();
  }
}

function complain(text) {
  const note = byId("status");
  note.classList.remove("visually-hidden");
  note.classList.add("problem");
  note.textContent = text;
  setTimeout(() => {
    note.classList.add("visually-hidden");
    note.classList.remove("problem");
  }, 6000);
}

function askKey(message = "") {
  byId("key-error").textContent = message;
  const dialog = byId("key-dialog");
  if (!dialog.open) dialog.showModal();
  byId("key").focus();
}

async function tryKey(submit) {
  submit.preventDefault();
  setKey(byId("key").value.trim());
  try {
    await connect();
    byId("key").value = "";
    byId("key-dialog").close();
    byId("request").focus();
  } catch (error) {
    askKey(error.message);
  }
}

function keyFromAddress() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (!key) return;
  setKey(key);
  history.replaceState(null, "", location.pathname);
}

byId("composer").addEventListener("submit", send);
byId("request").addEventListener("keydown", (press) => {
  if (press.key === "Enter" && !press.shiftKey && !press.isComposing) send(press);
});
byId("key-form").addEventListener("submit", tryKey);
byId("change-key").addEventListener("click", () => askKey());
initSide();
keyFromAddress();
if (getKey()) connect().catch((error) => askKey(error.message));
else askKey();
