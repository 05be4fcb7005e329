module ocdl/stack/pause

go 1.24.0
