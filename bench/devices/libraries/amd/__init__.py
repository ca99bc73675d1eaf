"""What the readers of AMD are made of: tables and sensors of the kernel, structures of the library."""
