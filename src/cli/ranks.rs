//! A command that several processes make together, started by `mpirun` or a scheduler: one of them speaks.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deepj::distributed::{Ranks, Wire, launched};
use deepj::gpu::Device;
use deepj::peaks::RooflineLimits;
use deepj::{Error, Result};

use super::{DeviceArguments, tell};

/// Whether another process speaks for this one.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Whether this process is to print nothing.
pub fn is_silent() -> bool {
    SILENT.load(Ordering::Relaxed)
}

/// This process among those that were started with it; from now on all but the first are silent, and they divide the processor's
/// cores.
pub fn join(wire: Wire) -> Result<Option<Ranks>> {
    let Some(ranks) = Ranks::join()? else { return Ok(None) };
    SILENT.store(!ranks.is_first(), Ordering::Relaxed);
    // Where there is a pool of threads already, it stays as it is.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(ranks.cores()).build_global();
    Ok(Some(ranks.with_wire(wire)))
}

/// Whether several processes were started together.
pub fn several() -> bool {
    launched().is_some_and(|started| started.size.is_some_and(|size| size > 1))
}

/// What to say of a command that each of them would make as a whole.
pub fn not_divided() -> Error {
    let variable = launched().map_or(String::new(), |started| format!(" ({})", started.variable));
    let e = Error::usage(
        format!(
            "several processes were started together{variable}, and this command is not divided: each would do the same"
        ),
        "start it without mpirun",
    );
    leave_to_first(e.exit_code().into());
    e
}

/// This process' number, where it is not the first of several.
fn later_number() -> Option<usize> {
    launched().filter(|_| several())?.rank.filter(|rank| *rank > 0)
}

/// Time that the first of several processes has to say what is wrong: its end in failure ends all others too.
const FIRST_SPEAKS: Duration = Duration::from_secs(1);

/// Leaves it to the first of several processes to say what is wrong with a command line that all have, and ends this one if it is
/// another.
pub fn leave_to_first(code: i32) {
    if later_number().is_some() {
        std::thread::sleep(FIRST_SPEAKS);
        std::process::exit(code);
    }
}

/// Whose error it is that a process has before it has joined the others, for people; empty where it is the first or alone. Returns after
/// the time in which the first would have said the same, which ends this one as well.
pub fn behind_the_first() -> String {
    let Some(rank) = later_number() else { return String::new() };
    std::thread::sleep(FIRST_SPEAKS);
    format!("rank {rank}: ")
}

/// What came of a command that was made together. An error that all have is told by the first; one that this process alone has is
/// told here, and ends all others.
pub fn conclude(ranks: Option<Ranks>, done: Result<ExitCode>) -> Result<ExitCode> {
    let Some(ranks) = ranks else { return done };
    // Whoever has nothing to do any more waits without taking a processor core.
    let done = done.and_then(|code| ranks.meet().map(|()| code));
    let Err(e) = done else { return done };
    if ranks.is_agreed() {
        tell(format_args!("error: {e:#}"));
        // Not before it was told: the first end in failure ends all others.
        let _ = ranks.meet();
        return Ok(ExitCode::from(e.exit_code()));
    }
    SILENT.store(false, Ordering::Relaxed);
    tell(format_args!("error: {}: {e:#}", ranks.name_of(ranks.rank())));
    ranks.abort(e.exit_code());
    // The process has ended, unless its connection was lost before.
    Ok(ExitCode::from(e.exit_code()))
}

impl DeviceArguments {
    /// What this rank's device can do at most, and the devices of all ranks together. Of ranks on one host with devices of one kind the
    /// first measures, alone on its host, and the others take its word.
    pub fn peaks_of_all(
        &self,
        device: &Device,
        ranks: Option<&Ranks>,
    ) -> Result<(Option<RooflineLimits>, Option<RooflineLimits>)> {
        let Some(ranks) = ranks else {
            let own = self.known_peaks(device);
            return Ok((own.clone(), own));
        };
        let host = |rank: usize| ranks.members()[rank].host.clone();
        let kinds: Vec<(String, String)> = ranks.all(&(host(ranks.rank()), device.machine().to_string()))?;
        let first = |kind: &(String, String)| kinds.iter().position(|other| other == kind).unwrap_or(0);
        // Those that measure, by the number of their turn on their host.
        let turn =
            |rank: usize| (0..rank).filter(|&other| host(other) == host(rank) && first(&kinds[other]) == other).count();
        let measure: Vec<usize> = (0..kinds.len()).filter(|&rank| first(&kinds[rank]) == rank).collect();
        let mut own = None;
        for now in 0..=measure.iter().map(|&rank| turn(rank)).max().unwrap_or(0) {
            if measure.contains(&ranks.rank()) && turn(ranks.rank()) == now {
                own = self.known_peaks(device);
            }
            ranks.meet()?;
        }
        let each = ranks.all(&own)?;
        let of = |rank: usize| each[first(&kinds[rank])].clone();
        let own = of(ranks.rank());
        let sum: Option<f64> = (0..kinds.len()).map(|rank| of(rank).map(|peaks| peaks.f32_gflops)).sum();
        let all = own.clone().zip(sum).map(|(own, f32_gflops)| RooflineLimits { f32_gflops, ..own });
        Ok((own, all))
    }
}

/// Who has what, a line for ranks that have the same.
pub fn listing(ranks: &Ranks, device: &Device, slots: usize) -> Result<Vec<String>> {
    let threads = rayon::current_num_threads();
    let own = match device.capabilities() {
        Some(adapter) => adapter.to_string(),
        None => format!("cpu with {threads} thread{}", if threads == 1 { "" } else { "s" }),
    };
    let all = ranks.all(&own)?;
    let mut lines: Vec<(&String, Vec<usize>)> = vec![];
    for (rank, device) in all.iter().enumerate() {
        match lines.iter_mut().find(|(known, _)| *known == device) {
            Some((_, ranks)) => ranks.push(rank),
            None => lines.push((device, vec![rank])),
        }
    }
    let slots = format!(
        "{slots} slot{} of the batch{}",
        if slots == 1 { "" } else { "s" },
        if ranks.size() > 1 { " each" } else { "" }
    );
    let mut lines: Vec<String> =
        lines.iter().map(|(device, numbers)| format!("{}: {device}", ranks.names_of(numbers))).collect();
    if let Some(last) = lines.last_mut() {
        last.push_str(&format!("; {slots}, sums as {}", ranks.wire().name()));
    }
    Ok(lines)
}
