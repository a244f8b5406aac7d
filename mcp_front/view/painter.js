// The mask painter: what is painted may change, all else stays.
const painter = document.getElementById("painter");
const canvas = painter.querySelector("canvas");
const pen = canvas.getContext("2d");
const words = document.getElementById("words");
const apply = document.getElementById("apply");
let edited = null, painted = false, last = null;

function openPainter(card) {
  const picture = painter.querySelector("img");
  edited = card;
  picture.src = card.image.src;
  painter.hidden = false;
  picture.decode().then(() => {
    canvas.width = picture.naturalWidth;
    canvas.height = picture.naturalHeight;
    clearMask();
    painter.dataset.ready = card.id;
  }).catch(complain);
  words.value = "";
  apply.disabled = true;
  words.focus();
}

function closePainter() {
  painter.hidden = true;
  delete painter.dataset.ready;
  edited = null;
}

function clearMask() {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  painted = false;
}

/** Draw a line of the brush from the last point to the pointer. */
function paint(event) {
  const shown = canvas.getBoundingClientRect();
  const scale = canvas.width / shown.width;
  const point = [(event.clientX - shown.left) * scale, (event.clientY - shown.top) * scale];
  pen.lineWidth = (document.getElementById("brush").value / 100) * Math.max(canvas.width, canvas.height);
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = "#fff";
  pen.beginPath();
  pen.moveTo(...(last ?? point));
  pen.lineTo(...point);
  pen.stroke();
  last = point;
  painted = true;
}

/** The mask as a PNG in base64: white on black, as large as the picture. */
function maskData() {
  const mask = new OffscreenCanvas(canvas.width, canvas.height);
  const brush = mask.getContext("2d");
  brush.fillStyle = "#000";
  brush.fillRect(0, 0, mask.width, mask.height);
  brush.drawImage(canvas, 0, 0);
  return mask.convertToBlob({ type: "image/png" }).then(async (blob) => encodeBase64(new Uint8Array(await blob.arrayBuffer())));
}

async function applyEdit() {
  const card = edited, wish = words.value.trim();
  if (!card || !wish) return;
  const given = { prompt: wish, images: [card.id], wait: false };
  if (painted) given.mask = (await callTool("upload_mask", { data: await maskData() })).structuredContent.image_id;
  closePainter();
  const where = painted ? " where they painted" : "";
  await draw("edit_image", given, `In the picture view the user had ${named(card)} changed${where}: ${wish}.`);
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  last = null;
  paint(event);
});
canvas.addEventListener("pointermove", (event) => { if (event.buttons) paint(event); });
words.addEventListener("input", () => { apply.disabled = !words.value.trim(); });
words.addEventListener("keydown", (event) => { if (event.key === "Enter") apply.click(); });
apply.addEventListener("click", () => applyEdit().catch(complain));
document.getElementById("clear").addEventListener("click", clearMask);
document.getElementById("close").addEventListener("click", closePainter);
