"""What retrieval is worth: judged collections, the systems compared on them, measures with their intervals."""
