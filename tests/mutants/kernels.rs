//! The kernels of all ops, and what is broken in each.

use std::collections::{BTreeMap, BTreeSet};

use deepj::gpu::Shader;

use super::drawn::{self, Change};
use super::mutant::{Broken, Mutant};
use super::trial::Attempt;
use super::written::WRITTEN;

/// `file/entry` of a shader.
pub fn kernel_of(shader: &Shader) -> String {
    format!("{}/{}", shader.op, shader.entry)
}

/// Every kernel, with the shaders that cases make of it.
pub struct Kernels {
    shaders: BTreeMap<String, Vec<Shader>>,
    cases: BTreeMap<String, BTreeSet<String>>,
    folded: BTreeSet<String>,
}

impl Kernels {
    /// Those that run in these cases.
    pub fn of(attempts: &[Attempt]) -> Self {
        let mut kernels = Self { shaders: BTreeMap::new(), cases: BTreeMap::new(), folded: BTreeSet::new() };
        for attempt in attempts {
            for dispatch in &attempt.dispatches {
                let kernel = kernel_of(&dispatch.shader);
                if dispatch.grid[1] > 1 {
                    kernels.folded.insert(kernel.clone());
                }
                kernels.cases.entry(kernel.clone()).or_default().insert(attempt.case.to_string());
                let shaders = kernels.shaders.entry(kernel).or_default();
                let Shader { consts, types, .. } = &dispatch.shader;
                if !shaders.iter().any(|known| (&known.consts, &known.types) == (consts, types)) {
                    shaders.push(dispatch.shader.clone());
                }
            }
        }
        kernels
    }

    /// The kernel of a mutant with its change, which must be one that compiles.
    ///
    /// # Errors
    /// What is wrong with the mutant itself.
    pub fn broken(&self, mutant: &Mutant) -> Result<Broken, String> {
        let at = |error: String| format!("{}: {}: {error}", mutant.kernel, mutant.what);
        let shaders = self.shaders.get(mutant.kernel).ok_or_else(|| at("there is no such kernel".into()))?;
        let broken = Broken::new(&shaders[0], mutant.text(shaders[0].source).map_err(at)?);
        let changed = shaders.iter().find(|shader| broken.changes(shader));
        broken.validate(changed.ok_or_else(|| at("no case's shader is changed".into()))?).map_err(at)?;
        match self.cases[mutant.kernel].contains(mutant.case) {
            true => Ok(broken),
            false => Err(at(format!("there is no case `{}` that runs the kernel", mutant.case))),
        }
    }

    /// Draws so many changes of each kernel.
    pub fn draw(&self, count: usize) -> Vec<Change> {
        let mut common = BTreeSet::new();
        self.shaders.values().flat_map(|shaders| drawn::draw(shaders, count, &mut common)).collect()
    }

    /// Checks that every kernel has a mutant, that each can be put into its shader, and that no two have one name.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn check(&self) -> Result<(), String> {
        let mut wrong: Vec<String> = WRITTEN.iter().filter_map(|mutant| self.broken(mutant).err()).collect();
        let has = |kernel: &str| WRITTEN.iter().any(|mutant| mutant.kernel == kernel);
        wrong.extend(self.shaders.keys().filter(|kernel| !has(kernel)).map(|kernel| format!("{kernel} has no mutant")));
        let mut names = BTreeSet::new();
        let again = WRITTEN.iter().filter(|mutant| !names.insert((mutant.kernel, mutant.what)));
        wrong.extend(again.map(|mutant| format!("{}: {}: is there twice", mutant.kernel, mutant.what)));
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    /// Checks that every kernel has a case with more workgroups than fit a line of the grid.
    ///
    /// # Errors
    /// The kernels that have none.
    pub fn check_folding(&self) -> Result<(), String> {
        let flat: Vec<&str> =
            self.shaders.keys().filter(|kernel| !self.folded.contains(*kernel)).map(String::as_str).collect();
        if flat.is_empty() { Ok(()) } else { Err(format!("no case folds the grid of {}", flat.join(", "))) }
    }

    /// The kernels that run in none of these cases.
    pub fn missing_in(&self, attempts: &[Attempt]) -> Vec<&str> {
        let run: BTreeSet<String> = attempts
            .iter()
            .flat_map(|attempt| &attempt.dispatches)
            .map(|dispatch| kernel_of(&dispatch.shader))
            .collect();
        self.shaders.keys().filter(|kernel| !run.contains(*kernel)).map(String::as_str).collect()
    }
}
