"""What every room uses: the package's messages, and patching a library when it is imported."""
