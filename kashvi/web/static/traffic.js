// The chart of the page Traffic: columns of /traffic.json, in the colours of tokens.css.
'use strict';
const place = document.getElementById('chart');
let plot = null;
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const hours = uPlot.fmtDate('{HH}:{mm}');
const utc = at => hours(uPlot.tzDate(new Date(at * 1e3), 'UTC'));

function made(data) {
  const axis = { stroke: colour('--soft'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false }, font: '12px system-ui, sans-serif' };
  const line = (label, name, fill) => ({
    label, stroke: colour(name), fill: fill ? colour(name) + '22' : undefined, width: 2, points: { show: false },
    value: (_, n) => n === null ? '–' : n.toLocaleString('en'),
  });
  return new uPlot({
    width: place.clientWidth, height: 260, tzDate: at => uPlot.tzDate(new Date(at * 1e3), 'UTC'),
    axes: [{ ...axis, values: (_, ticks) => ticks.map(utc) }, { ...axis, size: 48 }],
    padding: [12, 24, 0, 0],
    scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, 4)] } },
    series: [{ label: 'UTC', value: '{YYYY}-{MM}-{DD} {HH}:{mm}' }, line('done', '--succeeded', true), line('retried', '--retried'), line('failed', '--failed')],
    cursor: { points: { size: 7 } },
  }, data, place);
}

async function draw() {
  const answer = await fetch(place.dataset.json).catch(() => null);
  if (!answer || !answer.ok) return;
  const { at, done, retried, failed } = await answer.json();
  const data = [at, done, retried, failed];
  if (plot) plot.setData(data); else { place.replaceChildren(); plot = made(data); }
}

function anew() { if (plot) { plot.destroy(); plot = null; } draw(); }

if (place) {
  draw();
  document.body.addEventListener('refresh', draw);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', anew);
  new ResizeObserver(() => { if (plot && plot.width !== place.clientWidth) plot.setSize({ width: place.clientWidth, height: 260 }); }).observe(place);
}
