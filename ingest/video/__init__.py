"""The page of a video in, a file or a stream out, at the pace that the site allows."""
