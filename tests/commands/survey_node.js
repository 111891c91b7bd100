// 60 listeners to a survey of 3 pairs, by the functions of its page.
globalThis.crypto ??= require("crypto").webcrypto;
const fs = require("fs");
const page = require(process.argv[2]);
if (page.crc32c("123456789") !== "e3069283") throw "crc32c";
const html = fs.readFileSync("survey/index.html", "utf8");
const survey = JSON.parse(html.split('id="survey">')[1].split("</script>")[0]);
const orders = new Set();
for (let i = 0; i < 60; i++) {
  const state = page.beginning(survey);
  if (!page.isWhole(JSON.parse(JSON.stringify(state)), survey)) throw "whole";
  orders.add(JSON.stringify(state.order));
  state.familiarity = "much";
  for (const [pair, first, second] of state.order) {
    state.chosen[pair] = i % 2 ? first : second;
    state.heard[first] = 1000 / 3;
  }
  fs.writeFileSync(`answers/${i}.json`, JSON.stringify(page.answersOf(state, survey), null, 1));
  for (const damage of [(s) => s.order.pop(), (s) => (s.order[0] = s.order[1]), (s) => (s.survey = ""), (s) => (s.order[0][1] = "")]) {
    const other = JSON.parse(JSON.stringify(state));
    damage(other);
    if (page.isWhole(other, survey)) throw damage;
  }
}
// Of 3 pairs there are 6 orders, each with 8 of their clips.
console.log(orders.size);
