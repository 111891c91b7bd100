export async function train() {}
