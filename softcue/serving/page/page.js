// The page at /: choose adapters, type a text, see what each of them answers. No library, no build step.
// What comes from people or adapters becomes text nodes alone, never markup.

const LISTED = 20; // adapters that one request lists
const FEW = 8; // labels that a card shows at first
const PAUSE = 120; // milliseconds without a key before a search is sent
const LONGEST_LINK = 30_000; // characters
const COLOURS = 8; // of entities, in page.css
const TOKEN = "softcue-token";
const PER_ADAPTER = new Set([404, 422, 500, 504]); // refusals that one adapter can be the cause of

const at = (id) => document.getElementById(id);
const search = at("search"), found = at("found"), cards = at("cards"), text = at("text"), pair = at("pair");
const choices = at("choices"), status = at("status");

const chosen = new Map(); // name as asked for -> {kind, missing}
const list = { entries: [], active: -1, next: null, turn: 0, query: "", busy: false, problem: "" };
let asking = null; // the AbortController of the request under way
let sent = []; // bodies that were answered, for curl
let again = null; // what to do once a token is given

// ---- small things

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function tell(id, words) {
  const place = at(id);
  place.textContent = words;
  place.hidden = !words;
}

/** Say beside a field what is wrong with it, or nothing any more. */
function blame(field, words) {
  tell(`${field.id}-problem`, words);
  if (words) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
}

const counted = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

function percent(share) {
  const hundredths = share * 100;
  if (hundredths > 0 && hundredths < 0.1) return "< 0.1%";
  return `${hundredths.toFixed(1)}%`;
}

// ---- the server

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Return what the server answers as JSON; raise Refused with words for people. */
async function call(path, body, signal) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = {
    ...(token && { Authorization: `Bearer ${token}` }),
    ...(body && { "Content-Type": "application/json" }),
  };
  let response, said;
  try {
    const sending = body && { method: "POST", body: JSON.stringify(body) };
    response = await fetch(path, { ...sending, headers, signal });
    said = await response.json().catch(() => null);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server did not answer. Is it running, and is this machine connected?");
  }
  if (response.ok && said) return said;
  throw new Refused(response.status, inWords(response, said?.error));
}

function inWords(response, said) {
  if (response.status === 429) {
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    return `The server has more to do than it can. Try again in ${counted(seconds, "second")}.`;
  }
  if (response.status === 413) return `This is more than the server takes at once. ${said ?? "Shorten the text."}`;
  if (response.status === 503) return "The server is shutting down. Try again when it is back.";
  return said ? `${said[0].toUpperCase()}${said.slice(1)}` : `The server answered with status ${response.status}.`;
}

/** Ask for a token if that is what the server wants, and say so; `next` is done once there is one. */
function wantsToken(error, next) {
  if (error.status !== 401) return false;
  const hadOne = sessionStorage.getItem(TOKEN) !== null;
  again = next;
  at("token-form").hidden = false;
  tell("token-problem", hadOne ? "The server does not know this token." : "");
  at("token").focus();
  return true;
}

// ---- choosing adapters

/** Search for what is typed; with `more` the page after the one that is shown. */
async function look(more = false) {
  const turn = ++list.turn;
  list.query = search.value.trim();
  list.busy = true;
  try {
    const page = await listing(list.query, more ? list.next : "");
    if (turn !== list.turn) return;
    list.entries = more ? [...list.entries, ...page.adapters] : page.adapters;
    list.next = page.next;
    if (!more) list.active = list.query && page.adapters.length ? 0 : -1;
    list.problem = "";
    showCount(page.count);
    showFound();
  } catch (error) {
    if (turn !== list.turn || wantsToken(error, start)) return;
    list.problem = error.message;
  } finally {
    if (turn === list.turn) list.busy = false;
  }
  showProblem();
}

/** Return a page of adapters by name; a name with a version or an alias is looked up as it is. */
async function listing(query, after) {
  if (!query.includes("@")) return call(`v1/adapters?${new URLSearchParams({ search: query, after, limit: LISTED })}`);
  try {
    const entry = await call(`v1/adapters/${encodeURIComponent(query)}`);
    return { adapters: [{ ...entry, name: query }], next: null };
  } catch (error) {
    if (error.status === 404 || error.status === 422) return { adapters: [], next: null };
    throw error;
  }
}

function showCount(count) {
  if (count === undefined) return;
  at("count").textContent = counted(count, "adapter");
  if (count || chosen.size) return;
  at("empty-title").textContent = "No adapters yet";
  at("empty-words").textContent =
    "This server has nothing to answer with. Train an adapter, add it to what is served, and load this page again.";
}

function showFound() {
  const isOpen = search.getAttribute("aria-expanded") === "true";
  found.replaceChildren(...list.entries.map(showOption));
  found.hidden = !isOpen || !list.entries.length;
  const nothing = isOpen && !list.entries.length && list.query && !list.problem;
  at("search-note").textContent = nothing ? `No adapter here has “${list.query}” in its name.` : "";
  const active = found.children[list.active];
  if (active && !found.hidden) {
    search.setAttribute("aria-activedescendant", active.id);
    active.scrollIntoView({ block: "nearest" });
  } else search.removeAttribute("aria-activedescendant");
}

function showOption(entry, index) {
  const facts = [entry.kind, entry.labels > 1 ? counted(entry.labels, "label") : null, entry.method];
  const option = make(
    "li",
    {
      role: "option",
      id: `found-${index}`,
      class: index === list.active ? "active" : null,
      "aria-selected": chosen.has(entry.name),
    },
    make("span", { class: "name" }, entry.name),
    make("span", { class: "version" }, `version ${entry.version}`),
    make("span", { class: "facts" }, facts.filter(Boolean).join(" · ")),
  );
  option.addEventListener("click", () => toggle(entry));
  return option;
}

function open(isOpen) {
  search.setAttribute("aria-expanded", String(isOpen));
  if (!isOpen) list.active = -1;
  showFound();
}

function toggle(entry) {
  if (chosen.has(entry.name)) chosen.delete(entry.name);
  else chosen.set(entry.name, { kind: entry.kind });
  showChosen();
  if (!search.value) return showFound();
  search.value = "";
  look();
}

function remove(name) {
  chosen.delete(name);
  showChosen();
  showFound();
  search.focus();
}

function showChosen() {
  const chips = [...chosen].map(([name, { missing }]) => {
    const button = make("button", { type: "button", "aria-label": `Remove ${name}` }, "×");
    button.addEventListener("click", () => remove(name));
    return make("li", { class: missing ? "missing" : null }, make("span", {}, name), button);
  });
  at("chosen").replaceChildren(...chips);
  showProblem();
  at("choices-field").hidden = ![...chosen.values()].some(({ kind }) => kind === "choice");
}

function showProblem() {
  const missing = [...chosen].filter(([, own]) => own.missing).map(([name]) => name);
  blame(search, list.problem || (missing.length ? `Not on this server: ${missing.join(", ")}.` : ""));
}

function move(step) {
  const isOpen = search.getAttribute("aria-expanded") === "true";
  const last = list.entries.length - 1;
  if (!isOpen) open(true);
  if (last < 0) return;
  if (step > 0 && list.active === last && list.next) return void (list.busy || look(true));
  list.active = list.active + step > last ? 0 : list.active + step < 0 ? last : list.active + step;
  showFound();
}

function onKey(event) {
  const entry = list.entries[list.active];
  if (event.key === "ArrowDown") move(1);
  else if (event.key === "ArrowUp") move(-1);
  else if (event.key === "Escape") open(false);
  else if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) {
    if (entry) toggle(entry);
    else open(true);
  } else if (event.key === "Backspace" && !search.value && chosen.size) remove([...chosen.keys()].at(-1));
  else return;
  event.preventDefault();
}

// ---- asking

const lines = () => choices.value.split("\n").map((line) => line.trim()).filter(Boolean);

/** Return what an adapter of this kind reads: each is refused with anything more or less. */
function inputsFor(kind) {
  if (kind === "choice") return { text: text.value, choices: lines() };
  if (kind === "tag" || !at("second").open || !pair.value.trim()) return text.value;
  return { text: text.value, text_pair: pair.value };
}

/** Return the bodies to send: one for all adapters that read the same. */
function bodies() {
  const groups = new Map();
  for (const [name, { kind }] of chosen) {
    const inputs = inputsFor(kind);
    const key = JSON.stringify(inputs);
    if (!groups.has(key)) groups.set(key, { adapters: [], inputs });
    groups.get(key).adapters.push(name);
  }
  return [...groups.values()];
}

/** Say beside its field what is missing; return the first such field. */
function lacking() {
  const wrong = [
    [search, chosen.size ? "" : "Choose at least one adapter."],
    [text, text.value.trim() ? "" : "Type a text."],
    [choices, at("choices-field").hidden || lines().length ? "" : "Give at least one choice."],
  ];
  for (const [field, words] of wrong) if (words || field !== search) blame(field, words);
  return wrong.find(([, words]) => words)?.[0];
}

/** Return [{name, result or error, note}] for one body.
 *
 * Where one adapter fails the server answers none, so that each is asked again alone.
 */
async function answer(body, signal) {
  try {
    const { results } = await call("predict", body, signal);
    sent.push(body);
    return results.map((result, index) => ({ name: body.adapters[index], result, inputs: body.inputs }));
  } catch (error) {
    if (!PER_ADAPTER.has(error.status)) throw error;
    if (body.adapters.length > 1) {
      const alone = body.adapters.map((name) => answer({ ...body, adapters: [name] }, signal));
      return (await Promise.all(alone)).flat();
    }
    if (error.status === 422 && body.inputs.text_pair) {
      const [first] = await answer({ ...body, inputs: body.inputs.text }, signal);
      if (first.result) return [{ ...first, note: "Reads one text: answered for the first alone." }];
    }
    if (error.message.includes("text_pair") && !body.inputs.text_pair) {
      at("second").open = true;
      error.message = "This adapter compares two texts. Give it a second text.";
    }
    return [{ name: body.adapters[0], error }];
  }
}

async function ask() {
  const field = lacking();
  if (field) return field.focus();
  asking?.abort();
  const mine = (asking = new AbortController());
  sent = [];
  waiting(true);
  const began = performance.now();
  try {
    const answers = (await Promise.all(bodies().map((body) => answer(body, mine.signal)))).flat();
    const took = performance.now() - began;
    showAnswers(inOrder(answers), took);
  } catch (error) {
    if (error.name === "AbortError" || mine !== asking) return;
    showFailure(error);
  } finally {
    if (mine === asking) waiting(false);
  }
}

/** Return answers as their adapters were chosen, those with a whole text to show first. */
function inOrder(answers) {
  const order = [...chosen.keys()];
  const place = ({ name, result }) => (result?.kind === "tag" ? 0 : order.length) + order.indexOf(name);
  return answers.sort((a, b) => place(a) - place(b));
}

function waiting(isWaiting) {
  cards.setAttribute("aria-busy", String(isWaiting));
  at("send").textContent = isWaiting ? "Asking…" : "Ask";
  if (!isWaiting) return;
  tell("failure", "");
  at("empty").hidden = true;
  at("by-hand").hidden = true;
  status.textContent = "";
  if (cards.children.length) return;
  const blank = () => make("div", { class: "blank", "aria-hidden": "true" });
  cards.replaceChildren(...[...chosen.keys()].map((name) => card(name, "", blank(), blank(), blank())));
}

function showFailure(error) {
  cards.replaceChildren();
  at("share").hidden = true;
  if (wantsToken(error, ask)) return;
  if (error.status === 413) blame(text, error.message);
  else tell("failure", error instanceof Refused ? error.message : `The page cannot read this answer: ${error}`);
}

// ---- answers

function showAnswers(answers, took) {
  cards.replaceChildren(...answers.map(showAnswer));
  const failed = answers.filter(({ error }) => error).length;
  const said = counted(answers.length - failed, "answer") + (failed ? `, ${failed} failed` : "");
  status.textContent = `${said} in ${took < 10 ? took.toFixed(1) : took.toFixed(0)} ms`;
  const link = `#${fragment()}`;
  at("copy-link").hidden = link.length > LONGEST_LINK;
  if (link.length <= LONGEST_LINK) history.replaceState(null, "", link);
  at("share").hidden = !sent.length;
  const isBelow = at("answers").getBoundingClientRect().top > innerHeight * 0.7;
  if (isBelow) at("answers").scrollIntoView();
}

function showAnswer({ name, result, error, note, inputs }) {
  if (error) {
    const shown = card(name, "", make("p", { class: "problem" }, error.message));
    shown.classList.add("failed");
    return shown;
  }
  const show = SHOW[result.kind] ?? showPlain;
  const shown = card(result.adapter, result.kind, ...show(result, inputs));
  if (note) shown.append(make("p", { class: "note" }, note));
  if (result.kind === "tag") shown.classList.add("wide");
  return shown;
}

function card(name, kind, ...body) {
  const title = make("h3", {}, name);
  const header = make("header", {}, title, make("span", { class: "kind" }, kind));
  return make("article", { class: "card" }, header, ...body);
}

const SHOW = {
  classify: ({ label, score, scores }) => [
    make("p", { class: "best" }, label),
    ...bars(Object.entries(scores ?? { [label]: score })),
  ],
  multilabel: ({ labels, scores }) => [
    make("p", { class: "best" }, labels.join(", ") || "no label"),
    ...bars(Object.entries(scores)),
  ],
  choice: ({ choice, scores }, inputs) => [
    make("p", { class: "best" }, inputs.choices[choice]),
    ...bars(scores.map((share, index) => [inputs.choices[index], share])),
  ],
  score: ({ value }) => [make("p", { class: "value" }, showNumber(value))],
  tag: showEntities,
};

const showPlain = (result) => [make("pre", {}, JSON.stringify(result, null, 2))];

const showNumber = (value) =>
  typeof value === "number" ? value.toLocaleString("en", { maximumFractionDigits: 3 }) : "no number";

/** Return names with bars, the likeliest first, and a button for those beyond the first few. */
function bars(shares) {
  const sorted = shares.sort((a, b) => b[1] - a[1]);
  const rows = sorted.map(([name, share]) => {
    const fill = make("span", { class: "fill", "aria-hidden": "true" });
    fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
    const track = make("span", { class: "track" }, fill, make("span", { class: "name" }, name));
    return make("li", {}, track, make("span", { class: "percent" }, percent(share)));
  });
  const shown = make("ol", { class: "bars" }, ...rows.slice(0, FEW));
  if (rows.length <= FEW) return [shown];
  const all = `Show all ${rows.length}`;
  const button = make("button", { type: "button", class: "plain", "aria-expanded": "false" }, all);
  button.addEventListener("click", () => {
    const isOpen = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(isOpen));
    button.textContent = isOpen ? `Show the first ${FEW}` : all;
    shown.replaceChildren(...rows.slice(0, isOpen ? rows.length : FEW));
    shown.classList.toggle("all", isOpen);
    shown.tabIndex = isOpen ? 0 : -1; // what scrolls can be reached by keyboard
  });
  return [shown, button];
}

/** Return the text with its entities marked, and a list of them. */
function showEntities({ entities }, inputs) {
  const letters = Array.from(inputs.text ?? inputs); // offsets count code points, as Python does
  const kinds = [...new Set(entities.map(({ entity_group }) => entity_group))].sort();
  const colour = (kind) => `entity-${kinds.indexOf(kind) % COLOURS}`;
  const marked = make("p", { class: "marked", dir: "auto" });
  const rows = [];
  let done = 0;
  for (const { entity_group: kind, score, start, end } of [...entities].sort((a, b) => a.start - b.start)) {
    if (start < done) continue; // one inside another has no place of its own
    const words = letters.slice(start, end).join("");
    const name = make("span", { class: "tag" }, kind);
    marked.append(letters.slice(done, start).join(""), make("mark", { class: colour(kind) }, words, " ", name));
    const tag = make("span", { class: `tag ${colour(kind)}` }, kind);
    const sure = make("span", { class: "percent" }, percent(score));
    rows.push(make("li", {}, tag, make("span", { class: "name" }, words), sure));
    done = end;
  }
  marked.append(letters.slice(done).join(""));
  if (!rows.length) return [marked, make("p", { class: "note" }, "No entities found.")];
  return [marked, make("ul", { class: "entities", "aria-label": "Entities" }, ...rows)];
}

// ---- sharing

function fragment() {
  const parts = new URLSearchParams();
  for (const name of chosen.keys()) parts.append("adapter", name);
  parts.set("text", text.value);
  if (at("second").open && pair.value) parts.set("pair", pair.value);
  if (!at("choices-field").hidden) for (const choice of lines()) parts.append("choice", choice);
  return parts.toString();
}

/** Fill the form from the address; the kinds of its adapters are asked for. */
async function restore() {
  const parts = new URLSearchParams(location.hash.slice(1));
  if (!parts.has("adapter") && !parts.has("text")) return;
  text.value = parts.get("text") ?? "";
  pair.value = parts.get("pair") ?? "";
  at("second").open = pair.value !== "";
  choices.value = parts.getAll("choice").join("\n");
  chosen.clear();
  for (const name of parts.getAll("adapter")) chosen.set(name, {});
  await learnKinds();
}

async function learnKinds() {
  showChosen();
  const unknown = [...chosen].filter(([, { kind }]) => !kind);
  await Promise.all(unknown.map(async ([name, own]) => {
    try {
      own.kind = (await call(`v1/adapters/${encodeURIComponent(name)}`)).kind;
      own.missing = false;
    } catch (error) {
      if (!wantsToken(error, start)) own.missing = error.status === 404 || error.status === 422;
    }
  }));
  showChosen();
}

/** Return the requests as commands; a token is never among them. */
function curl() {
  const quoted = (words) => `'${words.replaceAll("'", "'\\''")}'`;
  const token = sessionStorage.getItem(TOKEN) ? ' \\\n  -H "Authorization: Bearer $TOKEN"' : "";
  const address = quoted(new URL("predict", location.href).href);
  const head = `curl ${address}${token} \\\n  -H 'Content-Type: application/json' \\\n  -d`;
  return sent.map((body) => `${head} ${quoted(JSON.stringify(body))}`).join("\n");
}

async function copy(button, words) {
  try {
    await navigator.clipboard.writeText(words);
  } catch { // without TLS browsers allow it on this machine alone
    at("by-hand").hidden = false;
    at("to-copy").value = words;
    return at("to-copy").select();
  }
  const name = button.textContent;
  button.textContent = "Copied";
  button.disabled = true;
  setTimeout(() => Object.assign(button, { textContent: name, disabled: false }), 1500);
}

// ---- what happens when

function useToken() {
  const token = at("token").value.trim();
  if (!/^[\x21-\x7e]+$/.test(token))
    return tell("token-problem", "A token is letters, digits and signs, without spaces.");
  sessionStorage.setItem(TOKEN, token);
  at("token").value = "";
  at("token-form").hidden = true;
  at("forget").hidden = false;
  const next = again;
  again = null;
  next?.();
}

function forgetToken() {
  sessionStorage.removeItem(TOKEN);
  at("forget").hidden = true;
  start();
}

async function start() {
  await Promise.all([look(), learnKinds()]);
}

let timer;
search.addEventListener("input", () => {
  clearTimeout(timer);
  list.active = -1; // what is listed is of the words before
  open(true);
  timer = setTimeout(look, PAUSE);
});
search.addEventListener("keydown", onKey);
search.addEventListener("click", () => open(true));
search.addEventListener("blur", () => open(false));
at("picker").addEventListener("click", (event) => event.target === at("picker") && search.focus());
found.addEventListener("mousedown", (event) => event.preventDefault()); // the field keeps the focus
found.addEventListener("scroll", () => {
  const isLow = found.scrollTop + found.clientHeight > found.scrollHeight - 40;
  if (isLow && list.next && !list.busy) look(true);
});
text.addEventListener("input", () => blame(text, ""));
choices.addEventListener("input", () => blame(choices, ""));
at("ask").addEventListener("submit", (event) => (event.preventDefault(), ask()));
at("token-form").addEventListener("submit", (event) => (event.preventDefault(), useToken()));
at("forget").addEventListener("click", forgetToken);
at("copy-curl").addEventListener("click", (event) => copy(event.currentTarget, curl()));
at("copy-link").addEventListener("click", (event) => copy(event.currentTarget, location.href));
addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.target === at("token")) return;
  event.preventDefault();
  ask();
});
addEventListener("hashchange", restore);
at("forget").hidden = sessionStorage.getItem(TOKEN) === null;
look();
restore();
