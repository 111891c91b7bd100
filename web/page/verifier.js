export async function verify() {}
