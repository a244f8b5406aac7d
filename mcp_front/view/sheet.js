// The contact sheet: one card a picture, also for those that are still drawn.
const sheet = document.getElementById("pictures");
const status = document.getElementById("status");
const cards = [];
let prompt = "", chosen = null, loading = Promise.resolve();

const say = (words) => { status.textContent = words; };
const complain = (error) => say(error.message);

/** The card at `index`, with empty cards before it if they are lacking. */
function cardAt(index) {
  while (cards.length <= index) cards.push(newCard(cards.length + 1));
  return cards[index];
}

/** Remove the cards from `index` on. */
function cutSheet(index) {
  for (const card of cards.splice(index)) card.figure.remove();
  if (chosen && !cards.includes(chosen)) chosen = null;
  arrange();
}

function newCard(number) {
  const figure = document.getElementById("one").content.firstElementChild.cloneNode(true);
  const card = { number, figure, image: figure.querySelector("img"), id: null, full: null, model: "" };
  const press = () => (cards.length > 1 && chosen !== card ? choose(card) : zoom(card));
  card.image.addEventListener("click", press);
  card.image.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); press(); }
  });
  const on = (name, act) => figure.querySelector(`.${name}`).addEventListener("click", () => act(card));
  on("choose", choose);
  on("edit", openPainter);
  on("more", more);
  on("save", (one) => save(one).catch(complain));
  sheet.append(figure);
  return card;
}

/** Show what the cards can do now. */
function arrange() {
  sheet.classList.toggle("single", cards.length < 2);
  for (const card of cards) {
    const show = (name, shown) => { card.figure.querySelector(`.${name}`).hidden = !(card.id && shown); };
    show("choose", cards.length > 1);
    show("edit", can("serverTools"));
    show("more", can("serverTools"));
    show("save", card.full && can("downloadFile"));
    card.figure.classList.toggle("chosen", card === chosen);
    card.figure.querySelector(".choose").setAttribute("aria-pressed", String(card === chosen));
    card.image.alt = [cards.length > 1 ? `Picture ${card.number}` : "", card.prompt ?? prompt].filter(Boolean).join(": ");
  }
}

function zoom(card) {
  if (card.id) card.figure.querySelector(".frame").classList.toggle("zoomed");
}

/** A picture that is still drawn. */
function showPreview(card, mimeType, data) {
  if (!card.full) card.image.src = `data:${mimeType};base64,${data}`;
}

/** A finished picture: its facts at once, its pixels in full as soon as they are here. */
function showFinished(card, facts) {
  const isNew = card.id !== facts.image_id;
  Object.assign(card, { id: facts.image_id, facts: isNew ? facts : { ...card.facts, ...facts } });
  const { width, height, seed, saved_path: path, url } = card.facts;
  const number = cards.length > 1 ? `${card.number}. ` : "";
  const known = [width ? `${width} × ${height}` : "", seed != null ? `seed ${seed}` : "", card.model];
  card.figure.querySelector(".facts").textContent = number + (known.filter(Boolean).join(" · ") || (card.says ?? ""));
  card.figure.querySelector(".path").textContent = path ? `Saved: ${path}` : url ?? "";
  card.figure.dataset.id = card.id;
  arrange();
  if (isNew && can("serverTools")) loading = loading.then(() => showFull(card)).catch(complain);
}

async function showFull(card) {
  const id = card.id;
  const blob = await readFull(id, () => {});
  if (card.id !== id || !cards.includes(card)) return;
  card.full = blob;
  card.image.src = URL.createObjectURL(blob);
  await card.image.decode();
  card.figure.dataset.full = `${card.image.naturalWidth}x${card.image.naturalHeight}:${blob.size}`;
  arrange();
}

async function save(card) {
  const name = (card.facts.saved_path ?? `${card.id}.png`).split(/[\\/]/).pop();
  const bytes = new Uint8Array(await card.full.arrayBuffer());
  const resource = { uri: `file:///${encodeURIComponent(name)}`, mimeType: "image/png", blob: encodeBase64(bytes) };
  const answer = await request("ui/download-file", { contents: [{ type: "resource", resource }] });
  say(answer?.isError ? "The picture was not saved." : "Saved.");
}

function choose(card) {
  if (!card.id) return;
  chosen = card;
  arrange();
  tellModel().catch(complain);
}

/** Tell the model what the user chose and made here. Each update replaces the one before, so it says everything. */
async function tellModel() {
  const lines = cards.filter((one) => one.made).map((one) => `${one.made} The result is ${named(one)}.`);
  if (chosen) lines.push(`The user chose ${named(chosen)}. Use this image id from here on.`);
  if (!lines.length) return;
  if (!can("updateModelContext")) {
    say("This client does not pass your choice on: tell the assistant the number of the picture.");
    return;
  }
  await request("ui/update-model-context", { content: [{ type: "text", text: lines.join("\n") }] });
  say(chosen ? `Picture ${chosen.number} is chosen, and the assistant is told.` : "The assistant is told.");
}

function named(card) {
  const path = card.facts?.saved_path;
  const seed = card.facts?.seed;
  return `picture ${card.number}: image id ${card.id}${seed != null ? `, seed ${seed}` : ""}${path ? `, saved: ${path}` : ""}`;
}
