// Helpers that write to the page.
export const $ = (id) => document.getElementById(id);
const MAX_LOG = 100;

// Adds an event to the log, newest first.
export function log(kind, text, { at = Date.now(), bad = false } = {}) {
  const item = document.createElement('li');
  Object.assign(item.dataset, { kind, at, ...(bad && { bad }) });
  const make = (tag, textContent) => Object.assign(document.createElement(tag), { textContent });
  const time = make('time', new Date(at).toLocaleTimeString([], { hour12: false }));
  time.dateTime = new Date(at).toISOString();
  item.append(time, ' ', make('b', kind), ' ', make('span', text));
  $('log').insertBefore(item, [...$('log').children].find((other) => other.dataset.at <= at) ?? null);
  $('log').children[MAX_LOG]?.remove();
  $('empty').hidden = true;
}

// Live regions report only what changes.
export function write(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

export function pill(id, text) {
  write(id, text);
  $(id).dataset.status = text;
}

export const seconds = (ms) => `${Math.max(0, Math.round(ms / 1000))} s`;
