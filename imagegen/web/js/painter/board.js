// The picture with the mask on a canvas: zoom, pan, and painting by mouse, touch and pen.

const TINT = [255, 45, 120];
const TINT_ALPHA = 0.5;
const ZOOM_MAX = 32;
const WHEEL_ZOOM = 0.0025;
const SIZE_STEP = 1.15;
const OUTLINE_MS = 12;
const RIGHT_BUTTON = 2;
const PEN_ERASER = 32;

export class Board {
  tool = "brush"; // brush, eraser, rectangle, move
  spaceHeld = false; // moves the view, whatever the tool
  feather = 0;
  #view = { scale: 1, x: 0, y: 0 }; // a point of the picture lies at scale * point + (x, y), in CSS pixels
  #fitted = true; // the view follows the window's size
  #pointers = new Map(); // id → {x, y} in CSS pixels
  #act = null; // what the pointer that is down does: {move(event), end()}
  #hover = null; // where the brush's ring is shown, in CSS pixels
  #frame = 0;
  #stale = true; // tint and outline are older than the mask
  #tintedSoft = false; // the tint has a soft edge
  #outline = new Path2D();
  #outlineMs = 0; // how long its computation took
  #said = ""; // what `changed` was last called for

  /** `changed()` is called after each change of the mask, the size or the zoom, at most once a frame. */
  constructor(canvas, picture, mask, changed) {
    Object.assign(this, { canvas, picture, mask, changed });
    this.size = Math.max(2, Math.round(Math.min(mask.width, mask.height) / 8));
    this.tint = new OffscreenCanvas(mask.width, mask.height);
    const listen = (type, run, options) => canvas.addEventListener(type, run, options);
    listen("pointerdown", (event) => this.#down(event));
    listen("pointermove", (event) => this.#moved(event));
    for (const type of ["pointerup", "pointercancel"]) listen(type, (event) => this.#up(event));
    listen("pointerleave", () => this.#ring(null));
    listen("wheel", (event) => this.#wheel(event), { passive: false });
    listen("contextmenu", (event) => event.preventDefault());
    this.observer = new ResizeObserver(() => this.#resized());
    this.observer.observe(canvas);
    this.refresh();
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.#frame);
  }

  get sizeMax() {
    return Math.max(8, Math.round(Math.max(this.mask.width, this.mask.height) / 2));
  }

  /** How many CSS pixels a pixel of the mask takes. */
  get zoom() {
    return this.#view.scale;
  }

  setSize(size) {
    this.size = Math.min(this.sizeMax, Math.max(1, Math.round(size)));
    this.#draw();
  }

  /** Change the brush's size by steps, at least one pixel each. */
  resize(steps) {
    const wanted = this.size * SIZE_STEP ** steps;
    this.setSize(steps > 0 ? Math.max(this.size + 1, wanted) : Math.min(this.size - 1, wanted));
  }

  /** Change the mask as one step that can be undone. */
  change(work) {
    this.mask.begin();
    work(this.mask);
    this.mask.end();
    this.refresh();
  }

  undo() {
    this.#finish();
    this.mask.undo();
    this.refresh();
  }

  redo() {
    this.#finish();
    this.mask.redo();
    this.refresh();
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = Math.min(width / this.mask.width, height / this.mask.height) * 0.96;
    this.#fitted = true;
    this.#look({
      scale,
      x: (width - scale * this.mask.width) / 2,
      y: (height - scale * this.mask.height) / 2,
    });
  }

  /** Zoom about a point of the canvas, by default its middle. */
  zoomBy(factor, at = { x: this.canvas.clientWidth / 2, y: this.canvas.clientHeight / 2 }) {
    const least = Math.min(1, 48 / Math.max(this.mask.width, this.mask.height));
    const scale = Math.min(ZOOM_MAX, Math.max(least, this.#view.scale * factor));
    const by = scale / this.#view.scale;
    this.#fitted = false;
    this.#look({ scale, x: at.x - by * (at.x - this.#view.x), y: at.y - by * (at.y - this.#view.y) });
  }

  pan(dx, dy) {
    this.#fitted = false;
    this.#look({ ...this.#view, x: this.#view.x + dx, y: this.#view.y + dy });
  }

  /** Show the mask as it is now. */
  refresh() {
    this.#stale = true;
    this.#draw();
  }

  // ---- the view -----------------------------------------------------------------------------

  #look(view) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const keep = (at, length, room) => Math.min(room - 24, Math.max(24 - length, at)); // never out of sight
    this.#view = {
      scale: view.scale,
      x: keep(view.x, view.scale * this.mask.width, width),
      y: keep(view.y, view.scale * this.mask.height, height),
    };
    this.#draw();
  }

  #resized() {
    const ratio = devicePixelRatio;
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio);
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
    if (this.#fitted) this.fit();
    else this.#draw();
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => this.#drawNow());
  }

  #drawNow() {
    const draw = this.canvas.getContext("2d");
    const { scale, x, y } = this.#view;
    const ratio = devicePixelRatio;
    const news = this.#stale || this.#said !== `${this.size} ${scale}`;
    this.#said = `${this.size} ${scale}`;
    if (this.#stale) this.#tintMask();
    draw.setTransform(1, 0, 0, 1, 0, 0);
    draw.clearRect(0, 0, this.canvas.width, this.canvas.height);
    draw.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * x, ratio * y);
    draw.imageSmoothingEnabled = scale < 3;
    draw.drawImage(this.picture, 0, 0, this.mask.width, this.mask.height);
    draw.drawImage(this.tint, 0, 0);
    this.#stroke(draw, this.#outline, 1 / scale);
    const shape = this.#act?.shape?.() ?? this.#brush();
    if (shape) this.#stroke(draw, shape, 1 / scale);
    if (news) this.changed();
  }

  /** Draw tint and outline of the mask anew. What takes long waits until no pointer is down. */
  #tintMask() {
    const { width, height, levels } = this.mask;
    const whole = { left: 0, top: 0, right: width, bottom: height };
    const soft = this.feather > 0 && !this.#act;
    const dirty = this.mask.takeDirty();
    const box = soft || this.#tintedSoft ? whole : dirty;
    this.#tintedSoft = soft;
    if (box) this.#tintBox(soft ? this.mask.feathered(this.feather) : levels, box);
    if (!this.#act || this.#outlineMs < OUTLINE_MS) this.#drawOutline();
    this.#stale = false;
  }

  #tintBox(levels, { left, top, right, bottom }) {
    const image = new ImageData(right - left, bottom - top);
    const pixels = new Uint32Array(image.data.buffer);
    const colour = TINT[0] | (TINT[1] << 8) | (TINT[2] << 16);
    for (let y = top, at = 0; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        pixels[at++] = (colour | ((levels[y * this.mask.width + x] * TINT_ALPHA) << 24)) >>> 0;
      }
    }
    this.tint.getContext("2d").putImageData(image, left, top);
  }

  #drawOutline() {
    const began = performance.now();
    this.#outline = new Path2D();
    this.mask.outline((x, y, toX, toY) => {
      this.#outline.moveTo(x, y);
      this.#outline.lineTo(toX, toY);
    });
    this.#outlineMs = performance.now() - began;
  }

  /** Black beside white: visible on every picture. */
  #stroke(draw, path, pixel) {
    draw.lineCap = "square";
    for (const [colour, width] of [
      ["#000", 4],
      ["#fff", 1.75],
    ]) {
      draw.strokeStyle = colour;
      draw.lineWidth = width * pixel;
      draw.stroke(path);
    }
  }

  #brush() {
    if (!this.#hover || this.#moves || this.tool === "rectangle") return null;
    const { x, y } = this.#point(this.#hover);
    const ring = new Path2D();
    ring.arc(x, y, this.size / 2, 0, 2 * Math.PI);
    return ring;
  }

  #ring(at) {
    this.#hover = at;
    this.#draw();
  }

  // ---- pointers -----------------------------------------------------------------------------

  get #moves() {
    return this.tool === "move" || this.spaceHeld;
  }

  #place({ clientX, clientY }) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return { x: clientX - left, y: clientY - top };
  }

  /** A place on the canvas in the mask's pixels. */
  #point({ x, y }) {
    return { x: (x - this.#view.x) / this.#view.scale, y: (y - this.#view.y) / this.#view.scale };
  }

  #down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, this.#place(event));
    if (this.#pointers.size === 2) this.#pinch();
    else if (this.#pointers.size === 1) {
      const erases = this.tool === "eraser" || Boolean(event.buttons & (RIGHT_BUTTON | PEN_ERASER));
      if (this.#moves || event.button === 1) this.#drag(event);
      else if (this.tool === "rectangle") this.#rectangle(event, erases);
      else this.#paint(event, erases);
    }
    event.preventDefault();
    this.canvas.focus({ preventScroll: true, focusVisible: false });
  }

  #moved(event) {
    if (this.#pointers.has(event.pointerId)) this.#pointers.set(event.pointerId, this.#place(event));
    if (event.pointerType !== "touch") this.#ring(this.#place(event));
    this.#act?.move(event);
  }

  #up(event) {
    if (this.#pointers.delete(event.pointerId)) this.#finish();
  }

  #finish() {
    this.#act?.end();
    this.#act = null;
    this.refresh();
  }

  #drag(event) {
    let last = this.#place(event);
    const move = (now) => {
      const at = this.#place(now);
      this.pan(at.x - last.x, at.y - last.y);
      last = at;
    };
    this.#act = { move, end() {} };
  }

  /** Two fingers zoom and move the view. What the first one has painted meanwhile is dropped. */
  #pinch() {
    this.mask.abort();
    const look = () => {
      const [a, b] = [...this.#pointers.values()];
      return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.max(1, Math.hypot(a.x - b.x, a.y - b.y)) };
    };
    let last = look();
    const move = () => {
      if (this.#pointers.size < 2) return;
      const now = look();
      this.pan(now.x - last.x, now.y - last.y);
      this.zoomBy(now.apart / last.apart, now);
      last = now;
    };
    this.#act = { move, end() {} };
    this.refresh();
  }

  #paint(event, erase) {
    const radius = ({ pointerType, pressure }) =>
      (this.size / 2) * (pointerType === "pen" && pressure ? 0.4 + 0.6 * pressure : 1);
    let last = this.#point(this.#place(event));
    this.mask.begin();
    this.mask.line(last, last, radius(event), erase);
    this.refresh();
    const move = (now) => {
      const between = now.getCoalescedEvents?.() ?? [];
      for (const one of between.length ? between : [now]) {
        const at = this.#point(this.#place(one));
        this.mask.line(last, at, radius(one), erase);
        last = at;
      }
      this.refresh();
    };
    this.#act = { move, end: () => this.mask.end() };
  }

  #rectangle(event, erase) {
    const from = this.#point(this.#place(event));
    let to = from;
    const sides = () => [
      Math.min(from.x, to.x),
      Math.min(from.y, to.y),
      Math.abs(to.x - from.x),
      Math.abs(to.y - from.y),
    ];
    const move = (now) => {
      to = this.#point(this.#place(now));
      this.#draw();
    };
    const shape = () => {
      const path = new Path2D();
      path.rect(...sides());
      return path;
    };
    this.#act = { move, shape, end: () => this.change((mask) => mask.rectangle(...sides(), erase)) };
  }

  #wheel(event) {
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) this.zoomBy(Math.exp(-event.deltaY * WHEEL_ZOOM), this.#place(event));
    else if (event.deltaY) this.resize(event.deltaY < 0 ? 1 : -1);
  }
}
