// What the documents link to: for the tests of the working tree, and for those of the tarball.
const { readFileSync } = require('node:fs');
const { dirname, join } = require('node:path');

/**
 * Relative links of documents that lead nowhere.
 *
 * @param {string} folder where the documents are
 * @param {readonly string[]} documents their paths in it
 * @param {(path: string) => boolean} exists whether there is such a file or folder
 * @returns {string[]}
 */
function brokenLinks(folder, documents, exists) {
  return documents.flatMap((document) => {
    const text = readFileSync(join(folder, document), 'utf8');
    return [...text.matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g)]
      .filter(([, file, heading]) => {
        const target = file === '' ? document : join(dirname(document), file);
        if (!exists(target)) return true;
        return (
          heading !== undefined && !headings(readFileSync(join(folder, target), 'utf8')).includes(heading)
        );
      })
      .map(([link]) => `${document}: ${link}`);
  });
}

/** As GitHub names them. @param {string} text */
function headings(text) {
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
    title
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

module.exports = { brokenLinks };
