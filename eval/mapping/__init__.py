"""`coe map`: from an outcome file to a mapping under budgets, how sure it is, and what more budget would buy."""
