// Prints the JSON Schema by which VS Code checks .vscode/mcp.json: from VS Code's own source, as this package ships it.
const source = "@codingame/monaco-vscode-api/vscode/vs/workbench/contrib/mcp/common/mcpConfiguration";
console.log(JSON.stringify((await import(source)).mcpServerSchema));
