// The arrow keys in a group of buttons that is one tab stop.

/** Move the focus among `items` with arrows, Home and End. Up and down move by a row of `columns` items. */
export function moveFocus(event, items, columns = 1) {
  const at = items.indexOf(document.activeElement);
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
  const ends = { Home: 0, End: items.length - 1 };
  const to = event.key in steps ? at + steps[event.key] : ends[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  items[Math.max(0, Math.min(items.length - 1, to))].focus();
}
