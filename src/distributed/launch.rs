//! How this process was started: alone, or beside others by `mpirun` or a scheduler; and where it runs.

/// Processes that were started together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launched {
    /// How many, where that is known.
    pub size: Option<usize>,
    /// The number of this one, from 0, where that is known.
    pub rank: Option<usize>,
    /// The variable that says so, with its value.
    pub variable: String,
}

/// Variables in which starters of processes say how many there are, and which one this is: Open MPI, MPICH and Intel MPI (also
/// `srun --mpi=pmi2`), MVAPICH.
const SIZES: [(&str, &str); 3] = [
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("PMI_SIZE", "PMI_RANK"),
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
];
/// The one by which PMIx, `srun --mpi=pmix` among others, gives a process its number.
const PMIX: &str = "PMIX_RANK";
/// How many processes a step of Slurm has; also that of a shell, where it is 1.
const SLURM: &str = "SLURM_STEP_NUM_TASKS";

/// The processes that this one was started with; `None` where it was started alone.
pub fn launched() -> Option<Launched> {
    launched_by(|name| std::env::var(name).ok())
}

fn launched_by(variable: impl Fn(&str) -> Option<String>) -> Option<Launched> {
    let said = |name: &str| variable(name).map(|value| (value.trim().parse().ok(), format!("{name}={value}")));
    let number = |name: &str| said(name).and_then(|(number, _)| number);
    for (size, rank) in SIZES {
        if let Some((size, variable)) = said(size) {
            return Some(Launched { size, rank: number(rank), variable });
        }
    }
    let (rank, started) = said(PMIX)?;
    match said(SLURM) {
        Some((size @ Some(_), variable)) => Some(Launched { size, rank, variable }),
        _ => Some(Launched { size: None, rank, variable: started }),
    }
}

/// The machine's name.
pub(super) fn host() -> String {
    let name = system::host();
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".into())
}

/// The processor cores that this process may run on: a text that names them, and how many they are.
pub(super) fn cores() -> (String, usize) {
    let count = std::thread::available_parallelism().map_or(1, |count| count.get());
    system::cores().map_or((String::new(), count), |(cores, number)| (cores, number.min(count)))
}

#[cfg(unix)]
mod system {
    pub fn host() -> Option<String> {
        let mut name = [0_u8; 256];
        // SAFETY: the call writes at most so many bytes to an array of that length.
        let done = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len()) };
        let end = name.iter().position(|byte| *byte == 0)?;
        (done == 0).then(|| String::from_utf8_lossy(&name[..end]).into_owned())
    }

    #[cfg(target_os = "linux")]
    pub fn cores() -> Option<(String, usize)> {
        // SAFETY: the call writes a set of this size, of which zeros are a valid one, and process 0 is this one.
        let set = unsafe {
            let mut set = std::mem::zeroed::<libc::cpu_set_t>();
            (libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) == 0).then_some(set)
        }?;
        // SAFETY: all of these numbers are within the set.
        let is_in = |core: &usize| unsafe { libc::CPU_ISSET(*core, &set) };
        let cores: Vec<String> = (0..libc::CPU_SETSIZE as usize).filter(is_in).map(|core| core.to_string()).collect();
        Some((cores.join(","), cores.len()))
    }

    #[cfg(not(target_os = "linux"))]
    pub fn cores() -> Option<(String, usize)> {
        None
    }
}

#[cfg(not(unix))]
mod system {
    pub fn host() -> Option<String> {
        std::env::var("COMPUTERNAME").ok()
    }

    pub fn cores() -> Option<(String, usize)> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_were_started_together_know_of_it() {
        let of = |set: &[(&str, &str)]| {
            let set: Vec<(String, String)> =
                set.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            launched_by(move |name| set.iter().find(|(set, _)| set == name).map(|(_, value)| value.clone()))
        };
        let size = |set: &[(&str, &str)]| of(set).map(|launched| launched.size);
        assert_eq!(size(&[]), None);
        assert_eq!(size(&[("SLURM_STEP_NUM_TASKS", "4")]), None, "a step need not be of MPI");
        assert_eq!(size(&[("OMPI_COMM_WORLD_SIZE", "4"), ("PMIX_RANK", "1")]), Some(Some(4)));
        assert_eq!(size(&[("PMI_SIZE", "2"), ("PMI_RANK", "1")]), Some(Some(2)));
        assert_eq!(size(&[("PMIX_RANK", "1"), ("SLURM_STEP_NUM_TASKS", "8")]), Some(Some(8)));
        assert_eq!(size(&[("PMIX_RANK", "0")]), Some(None));
        assert_eq!(of(&[("PMI_SIZE", "2")]).unwrap().variable, "PMI_SIZE=2");
        assert_eq!(of(&[("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "3")]).unwrap().rank, Some(3));
    }
}
