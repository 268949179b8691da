// Sphinx's own scores, with the chapters first and their reruns last.
var Scorer = {
  score: ([page, , , , score]) => score + (page.includes("/published/") ? 100 : page.includes("/quick/") ? -100 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};

// Excerpts are fetched from the pages found, which a browser refuses to pages on disk.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
