// Figures are asked for anew every few seconds, while the page is looked at. Forms are never inside of what is swapped.
'use strict';
const EVERY_MS = 5000;
const stale = yes => { const told = document.getElementById('stale'); if (told) told.hidden = !yes; };
setInterval(() => {
  if (document.visibilityState === 'visible') document.body.dispatchEvent(new Event('refresh'));
}, EVERY_MS);
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') document.body.dispatchEvent(new Event('refresh'));
});
document.addEventListener('htmx:error', () => stale(true));

const all = document.getElementById('pick-all');
if (all) {
  const ones = [...document.querySelectorAll('input[name="row"]')];
  all.hidden = false;
  all.addEventListener('change', () => ones.forEach(one => { one.checked = all.checked; }));
  ones.forEach(one => one.addEventListener('change', () => { all.checked = ones.every(other => other.checked); }));
}

const asking = document.getElementById('asking');
if (asking) asking.requestSubmit();

const asks = [...document.querySelectorAll('details.ask')];
document.addEventListener('click', event => asks.forEach(one => { if (!one.contains(event.target)) one.open = false; }));
document.addEventListener('keydown', event => {
  if (event.key !== 'Escape') return;
  asks.filter(one => one.open).forEach(one => { one.open = false; one.querySelector('summary').focus(); });
});
