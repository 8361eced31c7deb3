/** The manual pages, and what the documents say of the programs, against the programs. */
export async function checkManual() {}
