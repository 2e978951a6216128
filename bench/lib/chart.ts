import type { Row } from './measure';
import { type Report, ratio, title } from './report';
import { escapeXml } from './xml';

const ROW_HEIGHT = 26;
const LABEL_WIDTH = 270;
const BAR_WIDTH = 420;
/** What is many times as fast as what it is compared with would leave no room for the others. */
const MAX_SPEED = 1.25;
/** Pixels for the speed of C. */
const UNIT = BAR_WIDTH / MAX_SPEED;
const HEADER = 46;

/** Speed as a part of the C loop's. */
export function chart(report: Report): string {
  const rows = report.rows.filter(({ target, speed }) => target !== undefined && speed.median <= MAX_SPEED);
  const height = HEADER + rows.length * ROW_HEIGHT + 34;
  const bottom = HEADER + rows.length * ROW_HEIGHT;
  const one = LABEL_WIDTH + UNIT;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="860" height="${height}" viewBox="0 0 860 ${height}" font-family="sans-serif" font-size="13">
<rect width="860" height="${height}" fill="#ffffff"/>
<text x="10" y="20" font-size="15" font-weight="bold">Speed next to the C loop with the same system calls</text>
<text x="${one}" y="40" fill="#555555" text-anchor="middle">C = 1</text>
${rows.map((row, index) => bar(row, HEADER + index * ROW_HEIGHT)).join('\n')}
<line x1="${one}" y1="${HEADER}" x2="${one}" y2="${bottom}" stroke="#555555"/>
<text x="10" y="${height - 10}" fill="#555555" font-size="11">${escapeXml(`${report.machine}; ${report.date}`)}</text>
</svg>
`;
}

function bar(row: Row, top: number): string {
  const place = (speed: number) => LABEL_WIDTH + Math.min(speed * UNIT, BAR_WIDTH);
  const middle = top + ROW_HEIGHT / 2 + 4;
  return [
    `<text x="${LABEL_WIDTH - 8}" y="${middle}" text-anchor="end">${escapeXml(title(row))}</text>`,
    `<rect x="${LABEL_WIDTH}" y="${top + 5}" width="${(place(row.speed.median) - LABEL_WIDTH).toFixed(1)}" height="${ROW_HEIGHT - 10}" fill="#3b7dd8"/>`,
    `<text x="${LABEL_WIDTH + BAR_WIDTH + 10}" y="${middle}">${ratio(row)}</text>`,
  ].join('\n');
}
