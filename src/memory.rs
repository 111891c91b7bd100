//! Memory that this process may still take: what the system has left, within the limits of its containers and its own.

use std::fs;
use std::path::Path;

/// Bytes of memory that the system could give to this process; `None` where it does not say. On Linux the least of what is free,
/// of what each memory cgroup around the process leaves (version 1 and 2), and of what its limit of address space leaves
/// (`ulimit -v`).
pub(crate) fn available_memory() -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let free = kib_of(&text("/proc/meminfo"), "MemAvailable:");
    let groups = cgroups(&text("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
    let address_space = match (address_space(&text("/proc/self/limits")), kib_of(&text("/proc/self/status"), "VmSize:"))
    {
        (Some(limit), Some(used)) => Some(limit.saturating_sub(used)),
        _ => None,
    };
    [free, groups, address_space].into_iter().flatten().min()
}

/// The bytes of a line such as `MemAvailable: 123 kB`.
fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib.saturating_mul(1024))
}

/// The soft limit of address space in `/proc/self/limits`; `None` if there is none.
fn address_space(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The least that the process's memory cgroups leave, each with those above it; `mounted` is where they are mounted, `groups`
/// the content of `/proc/self/cgroup`: a line each, `0::/path` of version 2, `5:memory:/path` of version 1.
fn cgroups(groups: &str, mounted: &Path) -> Option<u64> {
    let of_line = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let (root, [limit, usage, cache]) = match controllers {
            "" => (mounted.to_path_buf(), ["memory.max", "memory.current", "inactive_file"]),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (mounted.join("memory"), ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"])
            }
            _ => return None,
        };
        // Within a container the path may be the host's, of which only the end, or nothing, is mounted.
        let group = root.join(path.trim_start_matches('/'));
        let group = if group.is_dir() { group } else { root.clone() };
        let around = group.ancestors().take_while(|group| group.starts_with(&root));
        around.filter_map(|group| left(group, limit, usage, cache)).min()
    };
    groups.lines().filter_map(of_line).min()
}

/// What one cgroup leaves: its limit less what is used, where cached files that would be dropped first do not count.
fn left(group: &Path, limit: &str, usage: &str, cache: &str) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    let (limit, usage) = (number(limit)?, number(usage)?);
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let cached = stat.lines().find_map(|line| line.strip_prefix(cache)?.trim().parse::<u64>().ok()).unwrap_or(0);
    Some(limit.saturating_sub(usage.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_containers_and_processes_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        // Version 2: the group has no limit, that around it has.
        write("a/b/memory.max", "max\n");
        write("a/b/memory.current", "700\n");
        write("a/memory.max", "1000\n");
        write("a/memory.current", "800\n");
        write("a/memory.stat", "anon 500\ninactive_file 300\nactive_file 1\n");
        assert_eq!(cgroups("0::/a/b\n", folder.path()), Some(500));
        assert_eq!(cgroups("0::/elsewhere\n", folder.path()), None);
        // A container's own.
        write("memory.max", "400\n");
        write("memory.current", "100\n");
        assert_eq!(cgroups("0::/elsewhere\n", folder.path()), Some(300));
        assert_eq!(cgroups("0::/a/b\n", folder.path()), Some(300));
        // Version 1.
        write("memory/x/memory.limit_in_bytes", "2000\n");
        write("memory/x/memory.usage_in_bytes", "1950\n");
        write("memory/x/memory.stat", "inactive_file 9\ntotal_inactive_file 50\n");
        assert_eq!(cgroups("4:cpu,cpuacct:/x\n3:memory:/x\n", folder.path()), Some(100));

        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max address space         8000000000           unlimited            bytes     \n";
        assert_eq!(address_space(limits), Some(8_000_000_000));
        assert_eq!(address_space(&limits.replace("8000000000", "unlimited ")), None);
        assert_eq!(kib_of("MemFree: 1 kB\nMemAvailable:    2048 kB\n", "MemAvailable:"), Some(2 << 20));
        assert!(!cfg!(target_os = "linux") || available_memory().is_some_and(|bytes| bytes > 0));
    }
}
