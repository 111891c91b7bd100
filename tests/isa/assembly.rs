//! What is looked for in machine code of AMD's, as RADV prints it.

/// Instructions that multiply and add in f32, one a lane or two.
const PRODUCTS: [&str; 6] = ["v_fmac_f32", "v_fma_f32", "v_mac_f32", "v_mad_f32", "v_pk_fma", "v_dual_fmac"];
/// Instructions that read storage.
const LOADS: [&str; 2] = ["buffer_load", "global_load"];
/// Instructions that write workgroup memory.
const PUTS: [&str; 2] = ["ds_write", "ds_store"];
/// So many products make a loop's body: those of the gates' functions are fewer.
const MANY: usize = 48;
/// Lines within which they stand.
const WITHIN: usize = 160;

fn is(line: &str, names: &[&str]) -> bool {
    names.iter().any(|name| line.trim_start().starts_with(name))
}

/// Looks at the loops that multiply tiles: between the loads of the next tile and the first product nothing may wait for memory.
/// Returns how many there are.
///
/// # Errors
/// The line that waits, or what was not found.
pub fn reads_ahead(assembly: &str) -> Result<usize, String> {
    let lines: Vec<&str> = assembly.lines().collect();
    let begins = |&i: &usize| {
        let body = &lines[i..(i + WITHIN).min(lines.len())];
        is(lines[i], &PRODUCTS) && body.iter().filter(|line| is(line, &PRODUCTS)).count() >= MANY
    };
    let (mut loops, mut from) = (0, 0);
    while let Some(first) = (from..lines.len()).find(begins) {
        one_reads_ahead(&lines, first)?;
        loops += 1;
        // The next loop puts its tiles down first.
        let next = lines[first..].iter().position(|line| is(line, &PUTS));
        from = next.map_or(lines.len(), |put| first + put);
    }
    if loops == 0 { Err("there are not so many products".into()) } else { Ok(loops) }
}

/// The same of the loop whose first product stands in line `first`.
fn one_reads_ahead(lines: &[&str], first: usize) -> Result<(), String> {
    // The next tiles are read behind where these are put down, by one branch for rows and another for weights.
    let put = lines[..first].iter().rposition(|line| is(line, &PUTS)).ok_or("no tile is put down")?;
    let behind = lines[put..first].iter().position(|line| is(line, &LOADS));
    let load = put + behind.ok_or("nothing is read between these tiles and the products")?;
    match lines[load..first].iter().find(|line| line.contains("vmcnt")) {
        Some(line) => Err(format!("waits before the products: `{}`", line.trim())),
        None => Ok(()),
    }
}

/// Holds [`reads_ahead`] against texts with and without a wait.
///
/// # Errors
/// What it did not see.
pub fn check_itself() -> Result<(), String> {
    let products = "\tv_fmac_f32_e32 v1, v2, v3\n".repeat(MANY);
    let text = |wait: &str| {
        format!(
            "\tbuffer_load_dwordx4 v4\n\ts_waitcnt vmcnt(0)\n\tds_write_b128 v4\n\tbuffer_load_dwordx4 v4\n{wait}{products}"
        )
    };
    let ahead = text("");
    let loops = [reads_ahead(&ahead)?, reads_ahead(&text("\ts_waitcnt lgkmcnt(0)\n"))?, reads_ahead(&ahead.repeat(3))?];
    if loops != [1, 1, 3] {
        return Err(format!("saw {loops:?} loops"));
    }
    // What computes with stored f16 behind a loop is no product of it.
    let behind = ahead.clone()
        + "\tds_write_b128 v4\n\tbuffer_load_dwordx2 v4\n\ts_waitcnt vmcnt(0)\n"
        + &"\tv_fma_mix_f32 v1, v4, v5\n".repeat(MANY);
    if reads_ahead(&behind)? != 1 {
        return Err("took f16 behind a loop for another".into());
    }
    let between = text("\ts_waitcnt vmcnt(0)\n\tbuffer_load_dwordx4 v8\n");
    let second = ahead + &text("\ts_waitcnt vmcnt(0)\n");
    for broken in [text("\ts_waitcnt vmcnt(3)\n"), second, between, products.clone(), "\tds_write_b128 v4\n".into()] {
        if reads_ahead(&broken).is_ok() {
            return Err(format!("passed over:\n{}", &broken[..broken.len().min(200)]));
        }
    }
    Ok(())
}
