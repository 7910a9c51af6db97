"""What leaves this folder: published results, pages made from them, archive, crate."""
