"""Where calls are caught: one file for each library, from http.client to httpx."""
