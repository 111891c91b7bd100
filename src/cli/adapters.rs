//! `deepj adapters`.

use deepj::gpu::{self, Capabilities, Machine};
use deepj::graph::session::KernelSelection;
use deepj::verify::INSTALL;
use deepj::{Result, graph, peaks};

use super::{say, say_json};

/// List what there is to compute on
#[derive(clap::Args)]
#[command(after_help = "\
Of each adapter it shows what kernels may use, limits, and what is remembered of it in the user's cache folder: roofline limits
and how many kernels were measured.

Examples:
  deepj adapters
  deepj adapters --json")]
pub struct Adapters {
    /// Print names, limits and features as JSON
    #[arg(long)]
    json: bool,
}

impl Adapters {
    pub fn run(self) -> Result<()> {
        let adapters = pollster::block_on(gpu::adapters());
        if self.json {
            return say_json(&adapters);
        }
        for (index, adapter) in adapters.iter().enumerate() {
            say(format_args!("{index}: {adapter}"));
            let driver = format!("{} {}", adapter.driver, adapter.driver_info);
            say(format_args!("     driver      {}", driver.trim()));
            say(format_args!("     shaders     {}", shaders(adapter)));
            say(format_args!("     limits      {}", limits(adapter)));
            remembered(&Machine::of(adapter), Some(adapter));
        }
        say("cpu: the CPU backend, always there");
        remembered(&Machine::cpu(), None);
        if adapters.is_empty() {
            match gpu::excluded_by_environment() {
                Some(excluded) => say(format_args!("no adapter was found: {excluded}")),
                None => {
                    say("no GPU driver was found; what to install:");
                    INSTALL.iter().for_each(|line| say(format_args!("  {line}")));
                }
            }
        }
        Ok(())
    }
}

/// What shaders may use.
fn shaders(adapter: &Capabilities) -> String {
    let subgroups = match adapter.subgroup {
        true if adapter.subgroup_min_size == adapter.subgroup_max_size => {
            format!("subgroups of {}", adapter.subgroup_max_size)
        }
        true => format!("subgroups of {} to {}", adapter.subgroup_min_size, adapter.subgroup_max_size),
        false => "no subgroups".into(),
    };
    let matrices: Vec<String> = adapter
        .cooperative_matrix
        .iter()
        .map(|matrix| format!("{}x{}x{} {} to {}", matrix.m, matrix.n, matrix.k, matrix.factors, matrix.result))
        .collect();
    let matrices =
        if matrices.is_empty() { "no matrix units".into() } else { format!("matrices {}", matrices.join(", ")) };
    let f16 = if adapter.shader_f16 { "f16" } else { "no f16" };
    let timestamps = if adapter.timestamp_query { "timestamps" } else { "no timestamps" };
    format!("{f16}, {subgroups}, {matrices}, {timestamps}")
}

fn limits(adapter: &Capabilities) -> String {
    format!(
        "buffers of {}, bindings of {}, {} of workgroup memory, {} invocations a workgroup",
        binary(adapter.max_buffer_size),
        binary(adapter.max_storage_buffer_binding_size),
        binary(adapter.max_compute_workgroup_storage_size.into()),
        adapter.max_compute_invocations_per_workgroup
    )
}

/// Bytes in the largest unit of which there is one at least.
fn binary(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// Says what is remembered of a device.
fn remembered(machine: &Machine, adapter: Option<&Capabilities>) {
    let mut known = vec![];
    if let Some(Ok(Some(peaks))) = peaks::file().map(|file| peaks::recall(&file, machine)) {
        let on = peaks.measurement.as_ref().map_or(String::new(), |measurement| format!(" on {}", measurement.on));
        let doubt = peaks.doubt().map_or(String::new(), |why| format!(", perhaps too low: {why}"));
        let (flops, bandwidth) = (peaks.f32_gflops, peaks.bandwidth_gbs);
        known.push(format!("{flops:.1} GFLOP/s in f32 and {bandwidth:.1} GB/s, measured{on}{doubt}"));
    }
    if let (Some(adapter), Some(file)) = (adapter, KernelSelection::file())
        && let Ok(kernels) = graph::known_kernels(&file, adapter)
    {
        if kernels.measured > 0 {
            known.push(format!("the fastest variants of {} kernels and shapes", kernels.measured));
        }
        known.extend(kernels.tried.into_iter().map(|(variant, wrong)| match wrong {
            Some(wrong) => format!("{variant} is left out: {wrong}"),
            None => format!("{variant} has passed its check"),
        }));
    }
    if !known.is_empty() {
        say(format_args!("     remembered  {}", known.join("; ")));
    }
}
