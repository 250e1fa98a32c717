"""Images and files: find, decode, encode, crop, tile. Nothing here is learned."""
