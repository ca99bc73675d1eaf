"""The commands around another tool: `campaign hpl` writes its run, `import` brings its results as signed evidence."""
