//! How near the results came to their tolerances: a table at the end of a run, and with `DEEPJ_VERBOSE=1` every case.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use super::comparison::Margin;

/// The worst margin and the number of cases, by op and variant, then by adapter.
#[derive(Default)]
pub struct Report {
    rows: Mutex<BTreeMap<String, BTreeMap<String, Cell>>>,
    times: Mutex<Vec<(Duration, String)>>,
    verbose: bool,
}

struct Cell {
    cases: usize,
    share: f64,
    worst: String,
}

impl Report {
    /// An empty report, as talkative as the environment says.
    pub fn new() -> Self {
        let verbose = std::env::var("DEEPJ_VERBOSE").is_ok_and(|value| !value.is_empty() && value != "0");
        Self { verbose, ..Self::default() }
    }

    /// Enters the margin of a case that passed; `case` is its test's name.
    pub fn enter(&self, row: &str, column: &str, case: &str, margin: &Margin) {
        if self.verbose {
            println!("{case}: {} of tolerance; {}", percent(margin.share), margin.worst);
        }
        let mut rows = self.rows.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let columns = rows.entry(row.into()).or_default();
        let cell = columns.entry(column.into()).or_insert(Cell { cases: 0, share: -1.0, worst: String::new() });
        cell.cases += 1;
        if margin.share > cell.share {
            (cell.share, cell.worst) = (margin.share, format!("{case}: {}", margin.worst));
        }
    }

    /// Enters how long a case took, its compilation included.
    pub fn took(&self, case: String, time: Duration) {
        self.times.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((time, case));
    }

    /// Prints the table, and what took longest.
    pub fn print(&self) {
        let mut times = self.times.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        times.sort_unstable_by(|a, b| b.cmp(a));
        for (time, case) in times.iter().take(3) {
            println!("{:.1} s took {case}", time.as_secs_f64());
        }
        let rows = self.rows.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let columns: BTreeSet<&String> = rows.values().flat_map(BTreeMap::keys).collect();
        if columns.is_empty() {
            return;
        }
        println!("largest error as a share of its tolerance, and in how many cases");
        let first = rows.keys().map(String::len).max().unwrap_or_default();
        let width = |column: &str| column.len().max(14);
        let headings: Vec<String> = columns.iter().map(|name| format!("{name:>0$}", width(name))).collect();
        println!("{:first$}  {}", "", headings.join("  "));
        for (row, cells) in &*rows {
            let cell = |column: &&String| match cells.get(*column) {
                Some(cell) => format!("{:>1$}", format!("{} in {}", percent(cell.share), cell.cases), width(column)),
                None => format!("{:>1$}", "-", width(column)),
            };
            println!("{row:first$}  {}", columns.iter().map(cell).collect::<Vec<_>>().join("  "));
        }
        let all = rows.values().flat_map(BTreeMap::values);
        if let Some(cell) = all.max_by(|a, b| a.share.total_cmp(&b.share)) {
            println!("nearest to its tolerance ({}): {}", percent(cell.share), cell.worst);
        }
    }
}

fn percent(share: f64) -> String {
    if share == 0.0 { "exact".into() } else { format!("{:.2} %", share * 100.0) }
}
