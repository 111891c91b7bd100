//! The program `deepj`.

fn main() {}
