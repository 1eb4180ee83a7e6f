// A minifier that cannot be wrong: it takes away comments and white space and renames only the constants
// in capitals, so what it leaves is more than a real minifier leaves. It relies on this project's style:
// every statement ends in a semicolon or a brace, and a comment stands alone or behind a space.
export function strip(source) {
  const kept = [];
  const constants = [];
  const rename = (name) => {
    if (!constants.includes(name)) constants.push(name);
    return `$${constants.indexOf(name)}`;
  };
  return source
    .replace(/^\s*\/\*\*[^]*?\*\/\s*$/gm, '')
    .replace(/(^|\s)\/\/ .*$/gm, '')
    .replace(/'[^'\n]*'|`[^`\n]*`|\/\^[^\n]*?\$\//g, (literal) => `\u0000${kept.push(literal) - 1}\u0000`)
    .replace(/\b[A-Z]+_[A-Z]+\b/g, rename)
    .replace(/\s+/g, ' ')
    .replace(/ ?([{}()=,:;?&|<>+*!\u0000[\]-]) ?/g, '$1')
    .replace(/;}/g, '}')
    .replace(/\u0000(\d+)\u0000/g, (_, index) => kept[index])
    .trim();
}
