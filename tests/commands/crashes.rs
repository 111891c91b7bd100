//! Power failures: what was written and not synced may be lost, in part or in any order, wherever the power fails.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use deepj::train::{ResumeMode, TrainOptions};

use crate::states::Uninterrupted;
use crate::system_calls::{Call, calls, traced, traced_folder};
use crate::{folder, is_long, program, random, run_quietly, tiny, tiny_arguments};

const STEPS: u64 = 4;

/// What a file holds: what reading it gives, and what of it is on the disk.
#[derive(Clone, Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
}

/// What a name in a folder stands for.
#[derive(Clone, Copy)]
enum Entry {
    Folder,
    /// By its number among all files there ever were.
    File(usize),
}

/// A change of a folder: what `path` now stands for, or that it stands for nothing.
#[derive(Clone)]
struct Change {
    path: PathBuf,
    entry: Option<Entry>,
}

/// A disk as POSIX promises it: a file's bytes are on it once the file is synced, and a folder's entries once the folder is.
struct Disk {
    root: PathBuf,
    files: Vec<File>,
    now: BTreeMap<PathBuf, Entry>,
    durable: BTreeMap<PathBuf, Entry>,
    /// Changes of folders that are not synced, as they came. A rename is one, of two names.
    pending: Vec<Vec<Change>>,
    /// Open files.
    open: HashMap<i64, usize>,
}

impl Disk {
    fn new(root: &Path) -> Self {
        let (now, durable) = Default::default();
        Self { root: root.into(), files: vec![], now, durable, pending: vec![], open: HashMap::new() }
    }

    fn change(&mut self, changes: Vec<Change>) {
        changes.iter().for_each(|change| apply(&mut self.now, change));
        self.pending.push(changes);
    }

    /// Does a call; returns whether it changed anything.
    fn apply(&mut self, call: &Call) -> bool {
        if call.result < 0 || !call.is_within(&self.root) {
            return false;
        }
        let at = |i: usize| call.path(i);
        match call.name.as_str() {
            "openat" => return self.open(call, at(1)),
            _ if is_lock(&at(0)) => return false,
            "mkdir" => self.change(vec![Change { path: at(0), entry: Some(Entry::Folder) }]),
            "unlink" => self.change(vec![Change { path: at(0), entry: None }]),
            "rename" | "renameat" => {
                let [from, to] = if call.name == "rename" { [0, 1] } else { [1, 3] }.map(at);
                let entry = self.now.get(&from).copied();
                self.change(vec![Change { path: from, entry: None }, Change { path: to, entry }]);
            }
            "write" => {
                let Some(&file) = self.open.get(&call.number(0)) else { return false };
                self.files[file].now.extend(&call.bytes(1)[..call.result as usize]);
            }
            "fsync" | "fdatasync" => match self.open.get(&call.number(0)) {
                Some(&file) => self.files[file].durable = self.files[file].now.clone(),
                None => self.sync_folder(&at(0)),
            },
            other => panic!("this disk does not know {other}"),
        }
        true
    }

    fn open(&mut self, call: &Call, path: PathBuf) -> bool {
        self.open.remove(&call.result);
        if is_lock(&path) || !call.has(2, "O_CREAT") {
            return false;
        }
        assert!(!call.has(2, "O_TRUNC"), "this disk does not know files that are written anew");
        let file = match self.now.get(&path) {
            Some(Entry::File(file)) => *file,
            _ => {
                self.files.push(File::default());
                let file = self.files.len() - 1;
                self.change(vec![Change { path, entry: Some(Entry::File(file)) }]);
                file
            }
        };
        self.open.insert(call.result, file);
        true
    }

    fn sync_folder(&mut self, folder: &Path) {
        let of = |changes: &[Change]| changes.iter().all(|change| change.path.parent() == Some(folder));
        for changes in self.pending.extract_if(.., |changes| of(changes)) {
            changes.iter().for_each(|change| apply(&mut self.durable, change));
        }
    }

    /// Writes into `to` what may be there after a power failure now: all that is synced, and of the rest what `seed` chooses.
    fn fail(&self, to: &Path, kind: Failure, seed: &mut u64) {
        let mut entries = self.durable.clone();
        let cut = random(seed) as usize % (self.pending.len() + 1);
        for (i, changes) in self.pending.iter().enumerate() {
            let kept = match kind {
                Failure::AllIsLost => false,
                Failure::BytesAreLost | Failure::NothingIsLost => true,
                Failure::InOrder => i < cut,
                Failure::InAnyOrder => random(seed).is_multiple_of(2),
            };
            if kept {
                changes.iter().for_each(|change| apply(&mut entries, change));
            }
        }
        for (path, entry) in &entries {
            let place = to.join(path.strip_prefix(&self.root).unwrap());
            // What is in a folder that is lost is lost.
            if !place.parent().unwrap().is_dir() {
                continue;
            }
            match entry {
                Entry::Folder => std::fs::create_dir(place).unwrap(),
                Entry::File(file) => std::fs::write(place, self.files[*file].after(kind, seed)).unwrap(),
            }
        }
    }
}

/// Locks are no part of a run.
fn is_lock(path: &Path) -> bool {
    path.extension().or(path.file_name()).is_some_and(|ending| ["lock", ".lock"].iter().any(|lock| ending == *lock))
}

fn apply(entries: &mut BTreeMap<PathBuf, Entry>, change: &Change) {
    match change.entry {
        Some(entry) => entries.insert(change.path.clone(), entry),
        None => entries.remove(&change.path),
    };
}

impl File {
    fn after(&self, kind: Failure, seed: &mut u64) -> Vec<u8> {
        let rest = &self.now[self.durable.len()..];
        let mut bytes = self.durable.clone();
        match kind {
            Failure::AllIsLost | Failure::BytesAreLost => {}
            Failure::NothingIsLost => bytes.extend(rest),
            Failure::InOrder | Failure::InAnyOrder => {
                let cut = random(seed) as usize % (rest.len() + 1);
                bytes.extend(&rest[..cut]);
                // The file has got its length, and blocks that were never written.
                if random(seed).is_multiple_of(2) {
                    bytes.resize(self.now.len(), 0);
                }
            }
        }
        bytes
    }
}

/// What of that which is not synced is lost.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Failure {
    NothingIsLost,
    /// Bytes and names.
    AllIsLost,
    /// Bytes alone: names are there first.
    BytesAreLost,
    /// What came last.
    InOrder,
    /// Anything.
    InAnyOrder,
}

#[test]
fn a_power_failure_costs_nothing_that_was_saved() {
    let Some((_dir, path)) = traced_folder() else { return };
    let mut training = Uninterrupted::new(&tiny(&path, STEPS));
    let root = path.join("work");
    std::fs::create_dir(&root).unwrap();
    let log = path.join("log");
    let mut arguments = tiny_arguments(&["--resume", "auto", "--validate-every", "1", "--steps"]);
    let (before, end) = ((STEPS - 2).to_string(), STEPS.to_string());
    let data = arguments.iter().position(|argument| *argument == "corpus").unwrap();
    arguments[data] = "../corpus";
    // Into two folders that are made, ended, and gone on with.
    let out = arguments.iter().position(|argument| *argument == "run").unwrap();
    arguments[out] = "runs/run";
    let mut made = vec![];
    for steps in [&before, &end] {
        let program = program(&root, &[&arguments[..], &[steps]].concat());
        assert!(traced(&program, &log, &[]).output().unwrap().status.success());
        made.extend(calls(&log, &root));
    }
    let mut disk = Disk::new(&root);
    let (mut states, mut resumed, mut seed) = (0, 0, 7);
    let mut saved = None;
    for call in &made {
        if !disk.apply(call) {
            continue;
        }
        let mut seen = BTreeSet::new();
        use Failure::*;
        let random = [InOrder, InAnyOrder].repeat(if is_long() { 8 } else { 2 });
        for kind in [&[AllIsLost, BytesAreLost, NothingIsLost], &random[..]].concat() {
            let to = folder();
            disk.fail(to.path(), kind, &mut seed);
            let run = to.path().join("runs/run");
            let step = training.check(&run);
            assert!(step >= saved, "{kind:?}: update {saved:?} was saved, {step:?} is left");
            if kind == AllIsLost {
                saved = step;
            }
            states += 1;
            if seen.insert(step) && (is_long() || states % 4 == 0) {
                let options = TrainOptions { out: Some(run.clone()), resume: ResumeMode::Auto, ..tiny(&path, STEPS) };
                run_quietly(&options).unwrap();
                assert_eq!(training.check(&run), Some(STEPS), "{kind:?}");
                resumed += 1;
            }
        }
    }
    println!("{states} states after power failures, {resumed} of them gone on with");
    assert_eq!(saved, Some(STEPS), "what a training that ended has saved is on the disk");
}
