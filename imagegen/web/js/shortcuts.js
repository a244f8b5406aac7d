// The shortcuts: one table, for the handlers and for the list that `?` opens.
// A key without Ctrl works only outside text fields. It takes none of the browser's keys, and can be switched off.

import { state } from "./store.js";

/** By where they work: {keys, does, act}. `act` names the function that the place's handler is given. */
export const SHORTCUTS = {
  "On the page": [
    { keys: ["?"], does: "Show this list", act: "list" },
    { keys: ["Ctrl+Enter"], does: "Draw", act: "draw" },
    { keys: ["P"], does: "Go to the prompt", act: "prompt" },
    { keys: ["G"], does: "Go to the recent pictures", act: "gallery" },
    { keys: ["/"], does: "Find pictures", act: "find" },
    { keys: ["L"], does: "Live on or off", act: "live" },
    { keys: ["X"], does: "Cancel my first job in progress", act: "cancel" },
    { keys: ["Escape"], does: "Close a message", act: "dismiss" },
  ],
  "With the picture that is shown or has the focus": [
    { keys: ["F"], does: "Full screen", act: "full" },
    { keys: ["E"], does: "Edit it", act: "edit" },
    { keys: ["M"], does: "Paint a mask on it", act: "mask" },
    { keys: ["C"], does: "Compare it with another picture", act: "compare" },
    { keys: ["N"], does: "Draw it with a new seed", act: "again" },
    { keys: ["V"], does: "Draw variations", act: "vary" },
    { keys: ["S"], does: "Same settings", act: "same" },
    { keys: ["U"], does: "Upscale it", act: "enlarge" },
    { keys: ["D"], does: "Save it", act: "save" },
    { keys: ["K"], does: "Keep it, or keep it no longer", act: "keep" },
    { keys: ["Delete"], does: "Delete it", act: "remove" },
  ],
  "In full screen": [
    { keys: ["ArrowLeft"], does: "Newer picture", act: "newer" },
    { keys: ["ArrowRight"], does: "Older picture", act: "older" },
  ],
  "While painting a mask": [
    { keys: ["B"], does: "Brush", act: "brush" },
    { keys: ["E"], does: "Eraser", act: "eraser" },
    { keys: ["R"], does: "Rectangle", act: "rectangle" },
    { keys: ["M"], does: "Move the view; so does the space bar while it is held", act: "move" },
    { keys: ["[", ","], does: "Smaller brush", act: "smaller" },
    { keys: ["]", "."], does: "Larger brush", act: "larger" },
    { keys: ["Ctrl+Z"], does: "Undo", act: "undo" },
    { keys: ["Ctrl+Shift+Z"], does: "Redo", act: "redo" },
    { keys: ["I"], does: "Invert", act: "invert" },
    { keys: ["Delete"], does: "Clear", act: "clear" },
    { keys: ["+"], does: "Zoom in", act: "closer" },
    { keys: ["-"], does: "Zoom out", act: "farther" },
    { keys: ["0"], does: "Show the whole picture", act: "fit" },
    { keys: ["Ctrl+Enter"], does: "Use the mask", act: "use" },
  ],
  "While comparing": [
    { keys: ["X"], does: "Exchange the two pictures", act: "exchange" },
    { keys: ["ArrowLeft", "ArrowRight"], does: "Move the divider" }, // the slider's own keys
  ],
};

/** A handler of keydown: `place` is a name in the table, `acts` has a function for each `act` there. */
export function shortcuts(place, acts) {
  const rows = SHORTCUTS[place].filter((row) => row.act);
  for (const row of rows) if (!acts[row.act]) throw new Error(`no function for ${row.act}`);
  return (event) => {
    const row = event.defaultPrevented ? null : rows.find((one) => one.keys.some((key) => isPressed(key, event)));
    if (!row) return;
    if (acts[row.act](event) !== false) event.preventDefault();
  };
}

/** Whether the event is this key and may be a shortcut where it happened. */
function isPressed(key, event) {
  const names = key === "+" ? ["+"] : key.split("+");
  const name = names.at(-1);
  const control = names.includes("Ctrl");
  if (event.isComposing || control !== isControl(event)) return false;
  const letter = /^[A-Z]$/.test(name);
  if (letter && names.includes("Shift") !== event.shiftKey) return false;
  if ((letter ? event.key.toUpperCase() : event.key) !== name) return false;
  if (control) return name === "Enter" || !isTyping(event.target);
  if (name.length === 1 && state.prefs.keys === false && name !== "?") return false;
  return name === "Escape" || !(isTyping(event.target) || usesArrows(event.target, name));
}

/** Ctrl, or Cmd on a Mac; not AltGr, which some keyboards need for brackets. Alt is never a shortcut's. */
function isControl(event) {
  if (event.getModifierState("AltGraph")) return false;
  return event.altKey ? null : event.ctrlKey || event.metaKey;
}

const PLAIN = new Set(["checkbox", "radio", "range", "file", "button", "submit", "reset"]);

/** Whether keys pressed at `target` write text or choose an option. */
function isTyping(target) {
  if (target.tagName === "INPUT") return !PLAIN.has(target.type);
  return ["TEXTAREA", "SELECT"].includes(target.tagName) || target.isContentEditable;
}

const usesArrows = (target, name) => name.startsWith("Arrow") && target.tagName === "INPUT";
